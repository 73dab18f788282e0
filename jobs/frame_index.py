"""Which columns of a table were the index of a pandas frame. Knows two notes, and loads no library.

    pandas          what Arrow writes into a table or a Parquet file that it makes of a frame
    penstock.index  what is noted beside a job's rows, by the names that the columns land with

A level of the index that has no name is called `__index_level_0__`, as Arrow has it.
"""

import json
import re
from collections.abc import Mapping, Sequence

PANDAS = b"pandas"

_NOTE = b"penstock.index"
_MAX_BYTES = 4 << 20
_UNNAMED = re.compile(r"__index_level_\d+__")

Metadata = Mapping[bytes, bytes] | None  # of an Arrow schema


def index_of_frame(metadata: Metadata) -> list[str]:
    """Read Arrow's note; anybody may have written it. An index that only counts has no column."""
    note = (metadata or {}).get(PANDAS, b"")
    try:
        columns = json.loads(note)["index_columns"] if 0 < len(note) <= _MAX_BYTES else []
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    if not isinstance(columns, list):
        return []
    return [column for column in columns if isinstance(column, str)]


def noted(columns: Sequence[str]) -> dict[bytes, bytes]:
    """Write our note."""
    return {_NOTE: json.dumps(columns).encode()} if columns else {}


def noted_index(metadata: Metadata) -> list[str]:
    """Read our note."""
    return json.loads((metadata or {}).get(_NOTE, b"[]"))


def is_unnamed(column: str) -> bool:
    """Tell whether a column was a level of an index that has no name."""
    return _UNNAMED.fullmatch(column) is not None
