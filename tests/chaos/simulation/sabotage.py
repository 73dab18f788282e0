"""Safety code taken out, one piece at a time: what the simulation must notice.

Each is what somebody might write in good faith. A seed that notices it is known for each, found by
search; `python -m tests.chaos.simulation --sabotage NAME` finds others.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from penstock.jobs import durable, ending, job_table, keeper, landing
from penstock.jobs.custody import Custody
from penstock.jobs.feeder import Feeder
from penstock.jobs.job_dir import Final, JobDir

Sabotage = Callable[[], AbstractContextManager[object]]


def _script(name: str, line: str, without: str) -> Sabotage:
    """Change one line of a script."""

    @contextmanager
    def changed() -> Iterator[None]:
        source = job_table._source

        def changed_source(asked: str) -> str:
            text = source(asked)
            if asked != name:
                return text
            if text.count(line) != 1:
                raise ValueError(f"{name}.lua holds {text.count(line)} times: {line!r}")
            return text.replace(line, without)

        with patch.object(job_table, "_source", changed_source):
            yield

    return changed


def _method(owner: Any, name: str, instead: Callable[..., Any]) -> Sabotage:
    return lambda: patch.object(owner, name, instead)


def _overwrite(path: Path, data: bytes, *, temporary_dir: Path | None = None) -> bool:
    durable.replace_file(path, data)
    return True


def _end_in_the_table_first(
    settings: Any, table: Any, job_id: str, state: Any, error: str | None = None
) -> Final:
    table.finish(job_id, state, error)
    final = Final(state=state, at_ms=0, error=error)
    return JobDir(settings.jobs_dir, job_id).write_final(final)


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


SABOTAGES: dict[str, Sabotage] = {
    "commit takes any attempt": _script("commit", "not is_held(shard, ARGV[2])", "false"),
    "claim takes a leased shard": _script("claim", "if deadline and", "if false and"),
    "rebuild counts twice": _script("absorb", "and not is_landed(ARGV[i])", ""),
    "reap asks no lease": _script("reap", "'-inf', now,", "'-inf', '+inf',"),
    "reap gives no grace": _script("reap_gate", "return now >= quiet_until and 1 or 0", "return 1"),
    "a part may be overwritten": _method(landing, "create_file", _overwrite),
    "names are not synced": _method(durable, "fsync_directory", _nothing),
    "ends are not on disk first": _method(ending, "end", _end_in_the_table_first),
    "leases are not renewed": _method(Custody, "_renew", _nothing),
    "silent workers keep their shards": _method(keeper.Keeper, "_reap", _nothing),
    "lost messages stay lost": _method(Feeder, "reissue", lambda _: 0),
    "a wiped Redis stays empty": _method(keeper.Keeper, "_restore", _nothing),
    "unfinished ends stay so": _method(keeper.Keeper, "_finalize", _nothing),
    "jobs nobody entered stay out": _method(keeper.Keeper, "_enter", _nothing),
}
