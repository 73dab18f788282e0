"""Sees every step that a process takes towards a durable state, and can kill it before any of them.

A step is a system call that changes the disk below one directory, a row group that Arrow writes
there, an object that goes up, or a command that changes Redis. They are caught where Python makes
them, so the code under test carries no crash points: a step that is new, missing or in another
place changes the list.
"""

import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import redis
from redis.client import Pipeline
from redis.commands.core import Script

from penstock.jobs.object_store import ObjectStore

_UNIQUE = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp")
_JOB_ID = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_READS = {"GET", "HGET", "HGETALL", "SMEMBERS", "ZMSCORE", "ZCARD", "INFO", "EXISTS", "SCRIPT LOAD"}
_READING_SCRIPTS = {"_snapshot", "_open_shards"}


class DurableSteps:
    """The steps taken so far; the process dies instead of taking number `die_at`."""

    def __init__(self, root: Path, scripts: dict[str, str], die_at: int | None = None) -> None:
        self.taken: list[str] = []
        self._root = str(root)
        self._scripts = scripts  # sha -> name
        self._die_at = die_at

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch this process for the time of the block."""
        patches = [
            mock.patch.object(os, "mkdir", self._on_path("mkdir", os.mkdir)),
            mock.patch.object(os, "rmdir", self._on_path("rmdir", os.rmdir)),
            mock.patch.object(os, "unlink", self._on_path("unlink", os.unlink)),
            mock.patch.object(os, "symlink", self._on_target("symlink", os.symlink)),
            mock.patch.object(os, "link", self._on_target("link", os.link)),
            mock.patch.object(os, "rename", self._on_target("rename", os.rename)),
            mock.patch.object(os, "replace", self._on_target("rename", os.replace)),
            mock.patch.object(os, "open", self._open(os.open)),
            mock.patch.object(os, "write", self._write(os.write)),
            mock.patch.object(os, "fsync", self._on_descriptor("fsync", os.fsync)),
            mock.patch.object(io, "open", self._open_file(io.open)),
            mock.patch.object(pq, "ParquetWriter", self._parquet_writer(pq.ParquetWriter)),
            mock.patch.object(ObjectStore, "put", self._on_object("put", ObjectStore.put)),
            mock.patch.object(redis.Redis, "execute_command", self._redis_command()),
            mock.patch.object(Pipeline, "execute", self._redis_pipeline()),
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in reversed(patches):
                patch.stop()

    def _take(self, verb: str, name: str) -> None:
        if len(self.taken) == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.taken.append(f"{verb} {name}")

    def _name(self, path: Any) -> str | None:
        """Shorten a path below the root to what is the same in every run."""
        text = os.fspath(path)
        if not text.startswith(self._root):
            return None
        text = text.removeprefix(self._root).lstrip("/") or "."
        return _DIGEST.sub("KEY", _JOB_ID.sub("JOB", _UNIQUE.sub(".tmp", text)))

    def _on_path(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(path: Any, *arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            if dir_fd is not None:
                name = self._name(f"{_path_of(dir_fd)}/{path}")
                options["dir_fd"] = dir_fd
            else:
                name = self._name(path)
            if name is not None and _has_effect(verb, path, dir_fd):
                self._take(verb, name)
            return real(path, *arguments, **options)

        return step

    def _on_target(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(source: Any, target: Any, *arguments: Any, **options: Any) -> Any:
            name = self._name(target)
            if name is not None:
                self._take(verb, name)
            return real(source, target, *arguments, **options)

        return step

    def _on_descriptor(self, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(descriptor: int, *arguments: Any) -> Any:
            name = self._name(_path_of(descriptor))
            if name is not None:
                self._take(verb, name)
            return real(descriptor, *arguments)

        return step

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        """A write may be cut short: what is there when the process dies is half of it."""

        def step(descriptor: int, data: Any) -> int:
            name = self._name(_path_of(descriptor))
            if name is None:
                return real(descriptor, data)
            if len(self.taken) == self._die_at:
                real(descriptor, bytes(data)[: len(data) // 2])
            self._take("write", name)
            return real(descriptor, data)

        return step

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def step(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            name = self._name(path) if flags & os.O_CREAT else None
            if name is not None:
                self._take("create", name)
            return real(path, flags, *arguments, **options)

        return step

    def _open_file(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            name = None if isinstance(file, int) or "r" in mode else self._name(file)
            if name is not None:
                self._take("create", name)
            return real(file, mode, *arguments, **options)

        return step

    def _parquet_writer(self, real: type[pq.ParquetWriter]) -> type[pq.ParquetWriter]:
        steps = self

        class Writer(real):
            def __init__(self, where: Any, *arguments: Any, **options: Any) -> None:
                self.step_name = steps._name(where) if isinstance(where, str | Path) else None
                self._step("create")
                super().__init__(where, *arguments, **options)

            def write_table(self, *arguments: Any, **options: Any) -> None:
                self._step("write")
                super().write_table(*arguments, **options)

            def close(self) -> None:
                self._step("write the footer of")
                super().close()

            def _step(self, verb: str) -> None:
                if self.step_name is not None:
                    steps._take(verb, self.step_name)

        return Writer

    def _on_object(self, verb: str, real: Callable[..., None]) -> Callable[..., None]:
        def step(store: ObjectStore, source: Path, name: str) -> None:
            self._take(f"s3 {verb}", name)
            real(store, source, name)

        return step

    def _redis_command(self) -> Callable[..., Any]:
        real = redis.Redis.execute_command

        def step(client: Any, *arguments: Any, **options: Any) -> Any:
            name = self._change(arguments)
            if name is not None:
                self._take("redis", name)
            return real(client, *arguments, **options)

        return step

    def _redis_pipeline(self) -> Callable[..., Any]:
        real = Pipeline.execute

        def step(pipeline: Any, *arguments: Any, **options: Any) -> Any:
            names = filter(None, (self._change(queued) for queued, _ in pipeline.command_stack))
            changes = " ".join(names)
            if changes:
                self._take("redis", changes)
            return real(pipeline, *arguments, **options)

        return step

    def _change(self, arguments: Any) -> str | None:
        """Name what a command changes in Redis; None if it only reads."""
        command = str(arguments[0]).upper()
        if command == "EVALSHA":
            name = self._scripts.get(arguments[1], "a script")
            return None if name in _READING_SCRIPTS else name.lstrip("_")
        return None if command in _READS else command


def load_scripts(client: redis.Redis, *owners: object) -> dict[str, str]:
    """Load the scripts that these objects have registered; returns their names by digest."""
    names: dict[str, str] = {}
    for owner in owners:
        for name, script in vars(owner).items():
            if isinstance(script, Script):
                client.script_load(script.script)
                names[script.sha] = name
    return names


def _has_effect(verb: str, path: Any, dir_fd: int | None) -> bool:
    full = Path(_path_of(dir_fd)) / path if dir_fd is not None else Path(path)
    if verb == "mkdir":
        return full.parent.is_dir() and not full.exists()
    return os.path.lexists(full)


def _path_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""
