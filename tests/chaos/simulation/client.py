"""redis-py over a `Store`: its own methods and parsers, with a wire in between that may fail.

`Wire` is asked before and after every round trip; without one, nothing ever goes wrong.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import redis
import redis.client

import penstock.jobs.job_table

from .store import READS, WRITES_LITTLE, Store

SCRIPTS_DIR = Path(penstock.jobs.job_table.__file__).parent / "scripts"


class Wire(Protocol):
    """What may come between a client and the server."""

    def round_trip(self, name: str, do: Callable[[], Any], *, is_read: bool, fits: bool) -> Any:
        """Do it, or not, or twice, or raise a `redis.RedisError`. `fits`: it takes no memory."""


class StoreClient(redis.Redis):
    """A client of a store. It is the real one, down to where bytes would be sent.

    Attributes:
        scripts: the text of every script that was registered, by its hash.
        on_answer: is told of every command, its options for redis-py, and the answer.
    """

    def __init__(self, store: Store, wire: Wire | None = None) -> None:
        super().__init__(decode_responses=True, protocol=2)
        self._store = store
        self._wire = wire
        self.scripts: dict[str, str] = {}
        self.on_answer: Callable[[tuple[Any, ...], dict[str, Any], Any], None] | None = None
        self._registered: dict[str, Any] = {}
        self._fits: dict[str, tuple[str, bool]] = {}  # by a script's hash

    def execute_command(self, *args: Any, **options: Any) -> Any:
        name = _word(args[0])
        if self._wire is None:
            return self.apply(args, options)
        if name == "EVALSHA":
            title, fits = self._fits[args[1]]
            is_read = title == "snapshot"
        else:
            title, fits = name, name.lower() in WRITES_LITTLE
            is_read = name.lower() in READS
        return self._wire.round_trip(
            title, lambda: self.apply(args, options), is_read=is_read, fits=fits or is_read
        )

    def apply(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run one command on the store, and read the reply as redis-py does."""
        name = _word(args[0])
        words = [word for arg in args[1:] for word in _words(arg)]
        reply = self._store.do(*name.split()[:1], *name.split()[1:], *words)
        if name.lower() not in READS:
            self._store.num_writes += 1
        callback = self.response_callbacks.get(name)
        options.pop("keys", None)
        answer = callback(reply, **options) if callback else reply
        if self.on_answer is not None:
            self.on_answer(args, options, answer)
        return answer

    def title_of(self, words: tuple[Any, ...]) -> str:
        """Name a command for people: a script by its file."""
        return self._fits[words[1]][0] if words[0] == "EVALSHA" else _word(words[0])

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        return _Pipeline(self, self._wire)

    def register_script(self, script: Any) -> Any:
        if script in self._registered:
            return self._registered[script]
        flags = script.partition("\n")[0]
        title = _title(script)
        sha = self._store.load(script, title)
        self.scripts[sha] = script
        self._fits[sha] = (title, "allow-oom" in flags or "no-writes" in flags)
        registered = self._registered[script] = super().register_script(script)
        return registered


class _Pipeline(redis.client.Pipeline):
    """Commands that leave together and are executed one by one."""

    def __init__(self, client: StoreClient, wire: Wire | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, False, None)
        self._client = client
        self._store_wire = wire

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = [(command, dict(options)) for command, options in self.command_stack]
        self.command_stack = []

        def run() -> list[Any]:
            return [self._client.apply(command, dict(options)) for command, options in commands]

        if self._store_wire is None:
            return run()
        is_read = all(_word(command[0]).lower() in READS for command, _ in commands)
        return self._store_wire.round_trip("pipeline", run, is_read=is_read, fits=is_read)


@cache
def _purposes() -> dict[str, str]:
    """The comment that each file in jobs/scripts begins with, and the file's name."""
    paths = [path for path in SCRIPTS_DIR.glob("*.lua") if path.stem != "prelude"]
    return {path.read_text().splitlines()[1]: path.stem for path in paths}


def _title(script: str) -> str:
    """Name a script for traces: as its file, or by its first comment."""
    named = [name for purpose, name in _purposes().items() if f"\n{purpose}\n" in script]
    return named[0] if named else script.strip().partition("\n")[0][:40]


def _words(argument: Any) -> list[str]:
    if isinstance(argument, list | tuple):
        return [word for each in argument for word in _words(each)]
    return [_word(argument)]


def _word(argument: Any) -> str:
    if isinstance(argument, bytes):
        return argument.decode()
    return argument if isinstance(argument, str) else repr(argument)
