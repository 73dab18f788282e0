"""A file for what does not fit into memory while all rows of a step are brought together.

It has no name: its space is free again as soon as it is closed, or its process is gone. Knows rows,
keys and ranks; no step.
"""

import json
import os
import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from ..orders.ordering import Rank
from ..row import Row

_CACHE_KIB = 32 * 1024
_SCHEMA = """
CREATE TABLE key (digest BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE member (
    number INTEGER, tier INTEGER, rank, place INTEGER, content TEXT NOT NULL,
    PRIMARY KEY (number, tier, rank, place)
) WITHOUT ROWID;
"""


class Scratch:
    """Keys, numbered as they are met, and rows under numbers, in order of their ranks."""

    def __init__(self, directory: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=directory, suffix=".sqlite")
        os.close(descriptor)
        try:
            self._connection = sqlite3.connect(name, isolation_level=None)
            self._connection.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
                f"PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -{_CACHE_KIB}; "
                f"{_SCHEMA} BEGIN;"
            )
        finally:
            Path(name).unlink()
        self.num_keys = 0
        self._num_rows = 0

    def __enter__(self) -> Self:
        """Return it; leaving it closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def number(self, key: str) -> tuple[int, bool]:
        """Return the number of a key, and whether it was met now for the first time."""
        known = self.find(key)
        if known is not None:
            return known, False
        entry = (_digest(key), self.num_keys)
        self._connection.execute("INSERT INTO key VALUES (?, ?)", entry).close()
        self.num_keys += 1
        return entry[1], True

    def find(self, key: str) -> int | None:
        """Return the number of a key, if it was met."""
        query = "SELECT number FROM key WHERE digest = ?"
        with closing(self._connection.execute(query, (_digest(key),))) as cursor:
            row = cursor.fetchone()
        return None if row is None else row[0]

    def add(self, number: int, row: Row, rank: Rank) -> None:
        """Keep a row under a number."""
        content = json.dumps([row.row_id, row.values, row.parents])
        values = (number, *rank, self._num_rows, content)
        self._connection.execute("INSERT INTO member VALUES (?, ?, ?, ?, ?)", values).close()
        self._num_rows += 1

    def rows(self, number: int, limit: int = -1) -> Generator[Row, None, None]:
        """Yield the rows under a number, in order of their ranks, then as they came.

        Close it, if it is not read to its end.
        """
        query = "SELECT content FROM member WHERE number = ? ORDER BY tier, rank, place LIMIT ?"
        with closing(self._connection.execute(query, (number, limit))) as cursor:
            for (content,) in cursor:
                yield _row(content)

    def lowest(self, number: int, size: int) -> Iterator[Row]:
        """Yield the `size` rows of lowest rank under a number, in the order in which they came."""
        query = (
            "SELECT content FROM (SELECT content, place FROM member WHERE number = ? "
            "ORDER BY tier, rank, place LIMIT ?) ORDER BY place"
        )
        with closing(self._connection.execute(query, (number, size))) as cursor:
            for (content,) in cursor:
                yield _row(content)


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _row(content: str) -> Row:
    found: list[Any] = json.loads(content)
    return Row(found[0], found[1], tuple(found[2]))
