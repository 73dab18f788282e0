"""Which row of one job belongs to which of another. Knows keys, not what rows say.

In order, both sides are read at once and nothing is kept. By id, both are written to a scratch file
on disk, which sorts and joins them: memory stays small, however many rows there are.
"""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
Pair: TypeAlias = tuple[Row | None, Row | None]  # None: the other side has no such row

_TABLE = "CREATE TABLE {} (key TEXT, place INTEGER, row TEXT)"
_INDEX = "CREATE INDEX {0}_key ON {0} (key, place)"
# Equal keys pair off in the order in which they came.
_NUMBERED = "SELECT *, ROW_NUMBER() OVER (PARTITION BY key ORDER BY place) AS nth FROM {}"
_PAIRS = f"""
WITH a AS ({_NUMBERED.format("first")}), b AS ({_NUMBERED.format("second")})
SELECT a.row, b.row, a.place AS place, 0 AS is_late
    FROM a LEFT JOIN b ON a.key = b.key AND a.nth = b.nth
UNION ALL
SELECT NULL, b.row, b.place, 1
    FROM b LEFT JOIN a ON a.key = b.key AND a.nth = b.nth WHERE a.key IS NULL
ORDER BY is_late, place
"""


def pairs_in_order(first: Iterable[Row], second: Iterable[Row]) -> Iterator[Pair]:
    """Pair rows by their place in the input, as both sides come in that order."""
    left, right = iter(first), iter(second)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and _place(a) < _place(b)):
            yield a, None
            a = next(left, None)
        elif a is None or _place(b) < _place(a):
            yield None, b
            b = next(right, None)
        else:
            yield a, b
            a, b = next(left, None), next(right, None)


def pairs_by_key(
    first: Iterable[Row], second: Iterable[Row], key_of: Callable[[Row], str]
) -> Iterator[Pair]:
    """Pair rows that have the same key, in the order of the first side; then what it lacks."""
    with (
        tempfile.TemporaryDirectory(prefix="penstock-diff-") as folder,
        closing(sqlite3.connect(Path(folder) / "rows.sqlite", isolation_level=None)) as scratch,
    ):
        scratch.execute("PRAGMA journal_mode = OFF")  # nothing is lost with a scratch file
        scratch.execute("PRAGMA synchronous = OFF")
        for name, rows in (("first", first), ("second", second)):
            scratch.execute(_TABLE.format(name))
            _fill(scratch, name, rows, key_of)
            scratch.execute(_INDEX.format(name))
        for a, b, _, _ in scratch.execute(_PAIRS):
            yield _read(a), _read(b)


def _fill(
    scratch: sqlite3.Connection, name: str, rows: Iterable[Row], key_of: Callable[[Row], str]
) -> None:
    lines = ((key_of(row), at, json.dumps(row, default=str)) for at, row in zip(count(), rows))
    scratch.execute("BEGIN")
    scratch.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", lines)
    scratch.execute("COMMIT")


def _read(text: str | None) -> Row | None:
    return None if text is None else json.loads(text)


def _place(row: Row) -> tuple[int, int]:
    return row["row_index"], row.get("sample_index") or 0
