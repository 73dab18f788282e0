"""Answers of earlier runs, by what was asked: a file per tenant, for one writer and many readers.

It only ever saves work. It may be deleted at any time, a damaged one is set aside and begun anew,
and where it cannot be read or written, everything is asked again. It lets go by itself of what is
too much, so it is no part of what a tenant stores by its quota (`stored_bytes`).
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from ...engine.sampling_params import GREEDY_EPSILON
from .asks import Answer, Ask

MAX_ANSWERS = 4_000_000
MAX_BYTES = 4 << 30  # of answers; keys and the index come on top

_VERSION = 1
_BUSY_S = 5.0
_AT_ONCE = 500  # keys in one query
_TOUCH_S = 3600  # a use is noted once in that time, so that reading seldom writes
_KEPT = 0.9  # of the bounds, after something had to go
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY, content BLOB NOT NULL, used_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON answer (used_s);
CREATE TABLE IF NOT EXISTS sums (num_answers INTEGER NOT NULL, num_bytes INTEGER NOT NULL);
INSERT INTO sums SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM sums);
PRAGMA user_version = {_VERSION};
"""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def key_prefix(model: str, revision: str) -> str:
    """Return how the keys of all begin that is asked of one revision of a model."""
    return blake2b(json.dumps([model, revision]).encode(), digest_size=6).hexdigest()


def ask_key(ask: Ask, revision: str = "") -> str:
    """Return what is equal for asks that are answered alike: by one model, in the same words.

    `revision` says which version of the model it is, its weights and what they are run in. Where
    nothing is left to chance, the seed does not matter.
    """
    body = dict(ask.body)
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature < GREEDY_EPSILON:
        body.pop("seed", None)
    said = json.dumps([ask.url, body], sort_keys=True, separators=(",", ":"))
    content = blake2b(said.encode(), digest_size=20).hexdigest()
    return key_prefix(ask.model, revision) + content


class RowCache:
    """Answers in one SQLite file. Nothing that goes wrong with it is raised."""

    def __init__(
        self,
        path: Path,
        *,
        max_answers: int = MAX_ANSWERS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @classmethod
    def open(cls, directory: Path, tenant: str) -> Self:
        """Return the cache of a tenant; the file is opened when it is first used."""
        return cls(directory / f"answers-{tenant}.sqlite")

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get_many(self, keys: Sequence[str]) -> Mapping[str, Answer]:
        """Return the answers that are there, by their keys."""
        return self._guarded(lambda connection: self._found(connection, keys), {})

    def put_many(self, answers: Mapping[str, Answer]) -> None:
        """Keep answers; failures are not kept, for they might not be repeated."""
        entries = [
            (key, content)
            for key, answer in answers.items()
            if answer.error is None and (content := _encode(answer)) is not None
        ]
        if entries:
            self._guarded(lambda connection: self._put(connection, entries), None)

    def _found(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        touched: list[str] = []
        now = int(self._clock())
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, content, used_s FROM answer WHERE key IN ({marks})"
            with closing(connection.execute(query, some)) as rows:
                for key, content, used_s in rows:
                    found[key] = msgspec.msgpack.decode(content, type=Answer)
                    if used_s < now - _TOUCH_S:
                        touched.append(key)
        if touched:
            update = "UPDATE answer SET used_s = ? WHERE key = ?"
            with suppress(sqlite3.OperationalError), connection:  # a writer is at work: not now
                connection.executemany(update, [(now, key) for key in touched])
        return found

    def _put(self, connection: sqlite3.Connection, entries: list[tuple[str, bytes]]) -> None:
        now = int(self._clock())
        insert = "INSERT OR IGNORE INTO answer VALUES (?, ?, ?)"
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            num_answers = num_bytes = 0
            for key, content in entries:
                if connection.execute(insert, (key, content, now)).rowcount == 1:
                    num_answers += 1
                    num_bytes += len(content)
            _add_to_sums(connection, num_answers, num_bytes)
            self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Let answers go that were not used for the longest time, if there are too many."""
        num_answers, num_bytes = connection.execute("SELECT * FROM sums").fetchone()
        if num_answers <= self._max_answers and num_bytes <= self._max_bytes:
            return
        query = "SELECT key, length(content) FROM answer ORDER BY used_s, key"
        going: list[tuple[str]] = []
        size = 0
        with closing(connection.execute(query)) as rows:
            for key, length in rows:
                has_room = (
                    num_answers - len(going) <= self._max_answers * _KEPT
                    and num_bytes - size <= self._max_bytes * _KEPT
                )
                if has_room:
                    break
                going.append((key,))
                size += length
        connection.executemany("DELETE FROM answer WHERE key = ?", going)
        _add_to_sums(connection, -len(going), -size)

    def _guarded(self, use: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Use the file; set it aside if it is damaged, and do without if it cannot be used."""
        try:
            return use(self._opened())
        except sqlite3.OperationalError as error:  # busy, full, not readable
            logger.warning("%s is not used: %s", self._path, error)
            self.close()
        except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
            logger.error("%s is damaged, and begun anew: %s", self._path, error)
            self._set_aside()
        except OSError as error:
            logger.warning("%s is not used: %s", self._path, error)
            self.close()
        return otherwise

    def _opened(self) -> sqlite3.Connection:
        """Return the connection; a new one, if the file was deleted meanwhile."""
        if self._connection is not None and self._inode == _inode_of(self._path):
            return self._connection
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_BUSY_S)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
                raise sqlite3.DatabaseError("another Penstock has written it")
            # No WAL: other machines may share the disk, and it needs memory that all would share.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection, self._inode = connection, _inode_of(self._path)
        return connection

    def _set_aside(self) -> None:
        self.close()
        with suppress(OSError):
            self._path.replace(self._path.with_suffix(".damaged"))
        for suffix in ("-journal", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _add_to_sums(connection: sqlite3.Connection, num_answers: int, num_bytes: int) -> None:
    connection.execute(
        "UPDATE sums SET num_answers = num_answers + ?, num_bytes = num_bytes + ?",
        (num_answers, num_bytes),
    )


def _encode(answer: Answer) -> bytes | None:
    """Return an answer as it is kept; None of one that cannot be."""
    try:
        return msgspec.msgpack.encode(replace(answer, is_cached=False))
    except (UnicodeEncodeError, msgspec.MsgspecError, OverflowError):
        return None
