"""The simulation's store against a real server: the same scripts, the same commands, one clock.

What the simulation shows of the job table is worth as much as this test. The real server's clock
is set by the test: where a script asks for TIME, the copy that is loaded here reads a key.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

import redis

from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys

from .client import SCRIPTS_DIR, StoreClient
from .store import Bits, Store
from .traces import History
from .world import EPOCH_US

NUM_COMMANDS = 100_000
LENGTH = 250  # calls of one history

_ASK_TIME = "redis.call('TIME')"
_READ_TIME = "redis.call('HMGET', 'clock', 'seconds', 'microseconds')"


@dataclass(frozen=True, slots=True)
class Asked:
    """One command that the store was sent, when, and what it answered."""

    now_us: int
    words: tuple[Any, ...]
    options: dict[str, Any]
    answer: Any


class Recorder:
    """A job table on a store, and everything that it asks of it."""

    def __init__(self) -> None:
        self.now_us = EPOCH_US
        self.store = Store(lambda: self.now_us)
        self.client = StoreClient(self.store)
        self.client.on_answer = self._note
        self.table = JobTable(self.client, Keys("ns"))
        self.asked: list[Asked] = []

    def play(self, seed: int) -> None:
        """Let a history happen, on an empty store."""
        history = History(Random(seed), EPOCH_US)
        self.store.flush()
        self.asked = []
        for _ in range(LENGTH):
            _, command = history.next()
            self.now_us = history.now_us
            command(self.table)

    def differing(self, answers: list[Any]) -> list[tuple[Asked, Any]]:
        """Pick the commands to which somebody else answered differently."""
        return [
            (each, found)
            for each, found in zip(self.asked, answers, strict=True)
            if self._settled(each, found) != self._settled(each, each.answer)
        ]

    def _settled(self, asked: Asked, answer: Any) -> Any:
        """Put what Redis gives in any order into one order."""
        match self.client.title_of(asked.words):
            case "TIME":
                return tuple(map(int, answer))
            case "snapshot":
                return _pairs(answer[0]), answer[1:]
            case "queued":
                return _pairs(answer)
            case "SSCAN":
                return answer[0], sorted(answer[1])
        return answer

    def _note(self, words: tuple[Any, ...], options: dict[str, Any], answer: Any) -> None:
        self.asked.append(Asked(self.now_us, words, dict(options), answer))


class Server:
    """A real server whose scripts read the time from a key."""

    def __init__(self, client: redis.Redis, scripts: dict[str, str]) -> None:
        self._client: Any = client
        self._hashes = {
            sha: client.script_load(script.replace(_ASK_TIME, _READ_TIME))
            for sha, script in scripts.items()
        }

    def answers(self, asked: list[Asked]) -> list[Any]:
        """Ask an empty server the same, at the same times; return each answer."""
        self._client.flushdb()
        pipeline = self._client.pipeline(transaction=False)
        places: list[int] = []
        now_us = 0
        for each in asked:
            if each.now_us != now_us:
                now_us = each.now_us
                seconds, microseconds = divmod(now_us, 1_000_000)
                pipeline.hset("clock", mapping={"seconds": seconds, "microseconds": microseconds})
            places.append(len(pipeline))
            pipeline.execute_command(*self._asked_here(each.words), **each.options)
        answers = pipeline.execute()
        return [answers[place] for place in places]

    def contents(self) -> dict[str, Any]:
        """Read everything there is, but the clock."""
        return {name: self._value(name) for name in self._client.keys("ns:*")}

    def _asked_here(self, words: tuple[Any, ...]) -> tuple[Any, ...]:
        if words[0] == "EVALSHA":
            return ("EVALSHA", self._hashes[words[1]], *words[2:])
        return ("HMGET", "clock", "seconds", "microseconds") if words[0] == "TIME" else words

    def _value(self, name: str) -> Any:
        match self._client.type(name):
            case "hash":
                return self._client.hgetall(name)
            case "zset":
                return dict(self._client.zrange(name, 0, -1, withscores=True))
            case "set":
                return self._client.smembers(name)
            case "string" if name.endswith(":landed"):
                bits = self._client.pipeline(transaction=False)
                for position in range(8 * self._client.strlen(name)):
                    bits.getbit(name, position)
                return {position for position, bit in enumerate(bits.execute()) if bit}
            case kind:
                raise AssertionError(f"{name} is a {kind}")


def test_the_store_answers_as_redis_does(redis_client: redis.Redis) -> None:
    recorder = Recorder()
    server = Server(redis_client, recorder.client.scripts)
    num_commands = seed = 0
    while num_commands < NUM_COMMANDS:
        recorder.play(seed)
        answers = server.answers(recorder.asked)
        assert recorder.differing(answers) == [], f"seed {seed}"
        assert server.contents() == _plain(recorder.store), f"seed {seed}"
        num_commands += len(answers)
        seed += 1


def test_a_difference_is_noticed(redis_client: redis.Redis) -> None:
    """The attempt check taken out of the real server's commit, and of nothing else."""
    recorder = Recorder()
    scripts = {
        sha: script.replace("not is_held(shard, ARGV[2])", "false")
        for sha, script in recorder.client.scripts.items()
    }
    assert scripts != recorder.client.scripts
    server = Server(redis_client, scripts)
    differ = 0
    for seed in range(5):
        recorder.play(seed)
        differ += len(recorder.differing(server.answers(recorder.asked)))
    assert differ


def test_every_script_is_in_the_histories() -> None:
    recorder = Recorder()
    ran: set[str] = set()
    recorder.store.on_script = lambda title, *_: ran.add(title)
    for seed in range(20):
        recorder.play(seed)
    assert ran == {path.stem for path in SCRIPTS_DIR.glob("*.lua")} - {"prelude"}


def test_only_the_prelude_asks_for_the_time() -> None:
    asks = [path.stem for path in SCRIPTS_DIR.glob("*.lua") if "'TIME'" in path.read_text()]
    assert asks == ["prelude"]
    assert (SCRIPTS_DIR / "prelude.lua").read_text().count(_ASK_TIME) == 1


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _plain(store: Store) -> dict[str, Any]:
    return {
        key: set(value) if isinstance(value, Bits) else value for key, value in store.data.items()
    }
