"""Safety code taken out, one piece at a time: what the simulation must notice.

Each is what somebody might write in good faith. A seed that notices it is known for each, found by
search; `python -m tests.chaos.simulation --sabotage NAME` finds others.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from penstock.jobs import durable, ending, keeper, landing, lua_script
from penstock.jobs.custody import Custody, OnDone
from penstock.jobs.feeder import Feeder
from penstock.jobs.frames import ShardLanded
from penstock.jobs.idempotency import HeldKey, IdempotencyKey
from penstock.jobs.job_dir import Final, JobDir
from penstock.jobs.model import ShardRef

Sabotage = Callable[[], AbstractContextManager[object]]


def _script(name: str, line: str, without: str) -> Sabotage:
    """Change one line of a script."""

    @contextmanager
    def changed() -> Iterator[None]:
        source = lua_script._source

        def changed_source(asked: str) -> str:
            text = source(asked)
            if asked != name:
                return text
            if text.count(line) != 1:
                raise ValueError(f"{name}.lua holds {text.count(line)} times: {line!r}")
            return text.replace(line, without)

        with patch.object(lua_script, "_source", changed_source):
            yield

    return changed


def _method(owner: Any, name: str, instead: Callable[..., Any]) -> Sabotage:
    return lambda: patch.object(owner, name, instead)


def _all(*sabotages: Sabotage) -> Sabotage:
    @contextmanager
    def changed() -> Iterator[None]:
        with ExitStack() as stack:
            for sabotage in sabotages:
                stack.enter_context(sabotage())
            yield

    return changed


def _overwrite(path: Path, data: bytes, *, temporary_dir: Path | None = None) -> bool:
    durable.replace_file(path, data)
    return True


def _end_in_the_table_first(
    settings: Any, table: Any, job_id: str, state: Any, error: str | None = None
) -> Final:
    table.finish(job_id, state, error)
    final = Final(state=state, at_ms=0, error=error)
    return JobDir(settings.jobs_dir, job_id).write_final(final)


def _end_without_commit(custody: Custody, frame: ShardLanded) -> None:
    held = custody._held_by(frame)
    if held is not None:
        custody._end(held, "landed")


def _open(key: IdempotencyKey) -> int:
    return os.open(key.path, os.O_RDWR | os.O_CREAT, 0o644)


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def acknowledged_early() -> AbstractContextManager[object]:
    """Let every shard's message be acknowledged before anything is done. This does no harm."""
    take = Custody.open

    def take_and_acknowledge(custody: Custody, ref: ShardRef, on_done: OnDone) -> None:
        take(custody, ref, lambda _: None)
        on_done("taken")

    return patch.object(Custody, "open", take_and_acknowledge)


SABOTAGES: dict[str, Sabotage] = {
    "commit takes any attempt": _script("commit", "not is_held(shard, ARGV[2])", "false"),
    "claim takes a leased shard": _script("claim", "if deadline and", "if false and"),
    "rebuild counts twice": _script("absorb", "and not is_landed(ARGV[i])", ""),
    "reap asks no lease": _script("reap", "'-inf', now,", "'-inf', '+inf',"),
    "a part may be overwritten": _method(landing, "create_file", _overwrite),
    "names are not synced": _method(durable, "fsync_directory", _nothing),
    "ends are not on disk first": _method(ending, "end", _end_in_the_table_first),
    "leases are not renewed": _method(Custody, "_renew", _nothing),
    "silent workers keep their shards": _method(keeper.Keeper, "_reap", _nothing),
    "lost messages stay lost": _method(Feeder, "reissue", lambda _: 0),
    "a wiped Redis stays empty": _all(
        _method(keeper.Keeper, "_restore", _nothing), _method(keeper.Keeper, "_enter", _nothing)
    ),
    "unfinished ends stay so": _method(keeper.Keeper, "_finalize", _nothing),
    "jobs nobody entered stay out": _method(keeper.Keeper, "_enter", _nothing),
    "landed shards are not committed": _method(Custody, "_commit", _end_without_commit),
    "keys name no job": _method(HeldKey, "bind", _nothing),
    "keys are not locked": _method(IdempotencyKey, "_locked", _open),
}
