"""What a step takes over from the runs that its run retries: all that was answered, save failures.

One SQLite file per step, filled from the orders of those runs, oldest first, before the step asks
anything. It may be deleted as long as they are there: it is filled again from the same orders. Of a
run that was removed, the run that retried it still has what it took over: its file is read then.

    a row has failed there     it is asked again, with another seed
    it was asked there         each try is answered as it was then, also one that was repeated
    neither                    it is asked, as in any run

What was asked is known by its key and its words. The seed is none of them: it may be another one
since a retry, and the key stands for the sample.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import msgspec

from ..durable import make_directories, may_exist
from ..errors import CorruptJob, UnknownJob
from ..job_dir import JobDir
from ..part_file import CorruptPart
from ..sealed_input import CorruptInput
from .asks import Answer, Ask
from .orders.orders import Order, answers_in, orders_of
from .runs.run_dir import RunDir
from .runs.run_results import RunResults
from .runs.run_spec import RunSpec
from .workshop.fault_file import fault_files, read_faults

FILLING_S = 60.0  # at a time: then others have their turn

_ALL = ""  # the name under which it is noted that nothing is left to be taken over
_BUSY_S = 30.0
_READ_S = 1.0  # somebody waits for a page
_AT_ONCE = 500  # keys in one query
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answer (key BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failed (row_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""


logger = logging.getLogger(__name__)


class NotTakenOver(Exception):
    """There is more to take over than could be in the time; the next time there is less."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Asks that nobody has answered. What is renewed had failed, and is to be asked for sure."""

    fresh: list[Ask]
    renewed: list[Ask]


def path_of(directory: RunDir, step_id: str) -> Path:
    """Name the file of a step of a run."""
    return directory.path / "earlier" / f"{step_id}.sqlite"


def retried_runs(runs_dir: Path, spec: RunSpec) -> list[RunSpec]:
    """Find the runs that a run retries, oldest first, as far back as they were not removed.

    Raises:
        CorruptJob: the one that it retries itself is gone, and with it all there was to take over.
    """
    found: list[RunSpec] = []
    retried = spec.retry_of
    while retried is not None:
        try:
            found.append(RunDir(runs_dir, retried).read())
        except (UnknownJob, CorruptJob) as error:
            if not found:
                raise CorruptJob(
                    f"{retried}, which this run retries, cannot be read: {error}; submit the run "
                    "anew to have all of it asked"
                ) from error
            break  # what that one was answered is asked again
        retried = found[-1].retry_of
    return found[::-1]


def forget(path: Path) -> None:
    """Remove the file of a step, so that it is filled anew, and what SQLite has left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):  # without the first, the others mean nothing
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class RetriedAnswers:
    """What one step takes over: `open` it to fill it, `read` what is there."""

    def __init__(self, connection: sqlite3.Connection, run_id: str, step_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._step_id = step_id
        self._is_full = False

    @classmethod
    def open(cls, path: Path, run_id: str, step_id: str) -> Self:
        """Open the file of a step, which is made if need be.

        No WAL: several machines may share the disk, and one would not see what another has in it.

        Raises:
            sqlite3.Error: it is busy or damaged.
        """
        make_directories(path.parent)
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            connection.executescript(f"PRAGMA journal_mode = DELETE; {_SCHEMA}")
        except sqlite3.Error:
            connection.close()
            raise
        return cls(connection, run_id, step_id)

    @classmethod
    def read(cls, path: Path, run_id: str, step_id: str) -> Self:
        """Open the file of a step to look into it, and to change nothing.

        Raises:
            sqlite3.Error: there is none, or it cannot be read; `sort` may raise that, too.
        """
        address = f"{path.absolute().as_uri()}?mode=ro"
        return cls(sqlite3.connect(address, uri=True, timeout=_READ_S), run_id, step_id)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def fill(self, runs_dir: Path, spec: RunSpec, jobs_dir: Path) -> None:
        """Take over what earlier runs were answered, oldest first; what is there already is kept.

        Raises:
            CorruptJob: there is something to take over, and the run that it is of is gone.
            NotTakenOver: the time is up.
            OSError, sqlite3.OperationalError: an earlier answer cannot be read just now.
        """
        self._is_full = self._is_full or self._is_taken(_ALL)
        if self._is_full:
            return
        until_s = time.monotonic() + FILLING_S
        retried = retried_runs(runs_dir, spec)
        if retried and retried[0].retry_of is not None:  # which was removed
            path = path_of(RunDir(runs_dir, retried[0].run_id), self._step_id)
            self._take(retried[0].retry_of, until_s, partial(self._take_over, path))
        for run in retried:
            for order in orders_of(jobs_dir, run.run_id):
                if order.step_id == self._step_id:
                    work = partial(self._take_order, run, order, jobs_dir)
                    self._take(order.job_id, until_s, work)
            self._take(run.run_id, until_s, partial(self._take_failures, run))
        self._take(_ALL, until_s, lambda: None)
        self._is_full = True

    def sort(self, asks: Sequence[Ask], answers: dict[str, Answer]) -> Unanswered:
        """Add to `answers` what was answered earlier; return the rest."""
        failed = self._found("failed", "row_id", {row for ask in asks for row in _rows_of(ask.key)})
        keys = {ask.key: _key(ask.key, ask.url, ask.body) for ask in asks}
        known = self._found("answer", "key", keys.values())
        rest = Unanswered([], [])
        for ask in asks:
            content = known.get(keys[ask.key])
            if any(row in failed for row in _rows_of(ask.key)):
                rest.renewed.append(self._renewed(ask))
            elif content is not None:
                earlier = msgspec.msgpack.decode(content[1], type=Answer)
                answers[ask.key] = replace(earlier, is_cached=True)
            else:
                rest.fresh.append(ask)
        return rest

    def _renewed(self, ask: Ask) -> Ask:
        """Draw another seed: with the same one, the answer might be the same."""
        if "seed" not in ask.body:
            return ask
        source = f"{self._run_id}/{ask.body['seed']}".encode()
        seed = int.from_bytes(blake2b(source, digest_size=8).digest(), "little") >> 1
        return replace(ask, body={**ask.body, "seed": seed})

    def _take(self, name: str, until_s: float, work: Callable[[], None]) -> None:
        """Do something once, whole or not at all, whoever else is at it."""
        if self._is_taken(name):
            return
        if time.monotonic() > until_s:
            raise NotTakenOver(f"step {self._step_id} takes over earlier answers: {name} is next")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_taken(name):
                work()
                self._connection.execute("INSERT INTO taken VALUES (?)", (name,))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _take_over(self, path: Path) -> None:
        """Take over all that an earlier run took over itself."""
        if may_exist(path):  # else what it had is asked again
            for table, marks in (("answer", "?, ?"), ("failed", "?")):
                command = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"
                self._connection.executemany(command, _rows_in(path, table))

    def _take_order(self, run: RunSpec, order: Order, jobs_dir: Path) -> None:
        """Take over an order, as far as it was answered and is not damaged."""
        step = RunResults.of(run).step(order.step_id)
        settled = {each.shard for each in order.shares if may_exist(step.part(each.shard))}
        for part in range(order.num_shards):
            try:
                found = answers_in(run, order, part)
                asked = _asked(JobDir(jobs_dir, order.job_id), part)
            except (CorruptPart, CorruptInput):
                continue
            entries: list[tuple[bytes, bytes]] = []
            rows: set[str] = set()
            for row_index, (key, url, body) in asked.items():
                answer, shard = found.get(row_index), order.shard_of(row_index)
                if answer is None or (answer.error is not None and shard not in settled):
                    continue  # what failed there has not been judged: it is asked again
                entries.append((_key(key, url, body), msgspec.msgpack.encode(answer)))
                rows.update(_rows_of(key))
            self._connection.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?)", entries)
            self._connection.executemany(
                "DELETE FROM failed WHERE row_id = ?", [(row,) for row in rows]
            )

    def _take_failures(self, run: RunSpec) -> None:
        """Note which rows have failed, by the last run that has judged them."""
        for path in fault_files(RunResults.of(run).step(self._step_id)).values():
            try:
                faults = read_faults(path)
            except CorruptPart as error:
                logger.error("%s; what had failed there is not asked again", error)
                continue
            self._connection.executemany(
                "INSERT OR IGNORE INTO failed VALUES (?)", [(fault.row_id,) for fault in faults]
            )

    def _is_taken(self, name: str) -> bool:
        return bool(self._found("taken", "name", [name]))

    def _found(self, table: str, column: str, keys: Iterable[Any]) -> dict[Any, tuple[Any, ...]]:
        found: dict[Any, tuple[Any, ...]] = {}
        for some in _batches(list(keys)):
            marks = ",".join("?" * len(some))
            query = f"SELECT * FROM {table} WHERE {column} IN ({marks})"
            with closing(self._connection.execute(query, some)) as rows:
                found.update((row[0], row) for row in rows)
        return found


def _asked(job_dir: JobDir, part: int) -> dict[int, tuple[str, str, Mapping[str, Any]]]:
    """Read what a shard of an order asks, by the numbers of its rows."""
    with job_dir.open_input() as sealed:
        return {
            row.row_index: (row.custom_id or "", row.row["url"], row.row["body"])
            for row in sealed.shard(part)
        }


def _rows_in(path: Path, table: str) -> Iterator[tuple[Any, ...]]:
    """Read a table of another run's file, as far as it is not damaged.

    Raises:
        sqlite3.OperationalError: it cannot be read just now.
    """
    address = f"{path.absolute().as_uri()}?mode=rw"  # what a killed writer left is rolled back
    try:
        with closing(sqlite3.connect(address, timeout=_BUSY_S, uri=True)) as found:
            found.executescript(_SCHEMA)  # its writer may have been killed before that, too
            yield from found.execute(f"SELECT * FROM {table}")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        logger.error("%s cannot be read (%s); what it had is asked again", path, error)


def _key(key: str, url: str, body: Mapping[str, Any]) -> bytes:
    words = {name: value for name, value in body.items() if name != "seed"}
    said = json.dumps([key, url, words], sort_keys=True, separators=(",", ":"))
    return blake2b(said.encode(), digest_size=20).digest()


def _rows_of(key: str) -> tuple[str, str]:
    """Name the row that an ask is about: 17 for 17, 17~1 and 17:ab~1; but names:17 is one, too."""
    first_try = key.partition("~")[0]
    return first_try, first_try.rpartition(":")[0] or first_try


def _batches(keys: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(keys), _AT_ONCE):
        yield keys[first : first + _AT_ONCE]
