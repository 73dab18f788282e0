"""The first rows of what a caller holds, and how many there are: enough to try a workflow on.

Reads a file no further than it must; what the server fetches itself is left to it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from pathlib import Path
from typing import Any

from .client_errors import InvalidInput
from .open_inputs import local_path
from .payloads import ArrowStream, JobInput, LazyTable, is_elsewhere, is_remote
from .sample_files import arrow, first_rows, num_rows_in

SAMPLED_ROWS = 200


def sample_of(rows: JobInput, num_rows: int = SAMPLED_ROWS) -> dict[str, Any]:
    """Give the first rows as the server takes an input. Of an iterator, these are then gone.

    Raises:
        InvalidInput: the rows cannot be read, or there are none.
        MissingPackage: pyarrow is needed for these.
    """
    if is_remote(rows):
        return {"path": rows}
    found = [_as_json(row) for row in islice(_rows(rows), num_rows)]
    if not found:
        shown = rows if isinstance(rows, str | Path) else f"{rows!r:.80}"
        raise InvalidInput(f"there are no rows in {shown}")
    return {"rows": found}


def count_of(rows: JobInput) -> int | None:
    """Count the rows, where that can be told without reading all of them as rows."""
    if is_remote(rows) or is_elsewhere(rows):
        return None
    if isinstance(rows, str | Path):
        return num_rows_in(local_path(rows))
    return len(rows) if isinstance(rows, Sized) else None


def _rows(rows: JobInput) -> Iterator[Mapping[str, Any]]:
    if is_elsewhere(rows):
        raise InvalidInput(f"cannot try {rows!r:.100}: download it first, or give some of its rows")
    if isinstance(rows, str | Path):
        yield from first_rows(local_path(rows))
    elif isinstance(rows, ArrowStream):
        for batch in arrow("pyarrow").RecordBatchReader.from_stream(rows):
            yield from batch.to_pylist()
    elif isinstance(rows, LazyTable):
        yield from _rows(rows.collect())  # pyright: ignore[reportAttributeAccessIssue]
    else:
        yield from _mappings(rows)


def _mappings(rows: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidInput(f"row {number} must be a mapping, got {type(row).__name__}")
        yield row


def _as_json(row: Mapping[str, Any]) -> Any:
    try:
        text = json.dumps(dict(row), default=str)
        return json.loads(text, parse_constant=lambda _: None)  # NaN is null, as for the server
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a row cannot be written as JSON: {error}") from error
