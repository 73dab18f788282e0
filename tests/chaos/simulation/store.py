"""Redis as plain data: the commands that jobs/ sends, the scripts it runs, the server's own clock.

Knows no connection: what can go wrong on the way is `client`'s. A value is a dict (hash, sorted
set), a set, a bitmap (a `Bits`), a list or a string; text is `str`, and a reply looks as RESP 2 has
it. An unknown command or option is an error, never a silent difference.
"""

from collections.abc import Callable
from hashlib import sha1
from typing import Any

from . import lua

WRITES_LITTLE = frozenset({"del", "srem", "zrem", "hdel", "expire", "rpop", "lrem"})
READS = frozenset(
    (
        *("exists", "get", "getbit", "hexists", "hget", "hgetall", "hkeys", "hmget", "info"),
        *("llen", "mget", "ping", "smembers", "sscan", "time", "zcard", "zmscore", "zrange"),
        *("zrangebyscore", "zrevrange", "zrevrank", "zscore"),
    )
)


class UnknownCommand(LookupError):
    """The product sends what this store has not been taught: teach it, with Redis' own answer."""


class Bits(set[int]):
    """A bitmap: the positions that are 1."""


class Store:
    """One server's memory. `do` runs one atomic command; a script is one, too.

    Attributes:
        data: what is stored, by key.
        run_id: changes whenever the server starts.
        num_writes: grows with every command that may have changed something.
        on_script: is told of every script that ran: its title, KEYS, ARGV and answer.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self.now_us = now_us
        self.data: dict[str, Any] = {}
        self.run_id = "run-0"
        self.num_writes = 0
        self._expires_ms: dict[str, int] = {}
        self.on_script: Callable[[str, list[str], list[str], Any], None] | None = None
        self._scripts: dict[str, tuple[str, Callable[..., Any]]] = {}
        self._commands: dict[str, Callable[..., Any]] = {}

    def do(self, name: str, *words: str) -> Any:
        command = self._commands.get(name)
        if command is None:
            command = getattr(self, f"_{name.lower()}", None)
            if command is None:
                raise UnknownCommand(name)
            self._commands[name] = command
        return command(*words)

    def load(self, source: str, title: str) -> str:
        """Make a script known; returns its hash."""
        sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
        if sha not in self._scripts:
            self._scripts[sha] = title, lua.compiled(_without_flags(source))
        return sha

    def copy(self) -> dict[str, Any]:
        """Keep what is stored now, for `restart`."""
        return {key: _copied(value) for key, value in self.data.items()}

    def restart(self, data: dict[str, Any]) -> None:
        """Begin a new run of the server, with these data."""
        number = int(self.run_id.partition("-")[2]) + 1
        self.run_id = f"run-{number}"
        self.flush(data)

    def flush(self, data: dict[str, Any] | None = None) -> None:
        """Lose everything, or all but these data."""
        self.data = {key: _copied(value) for key, value in (data or {}).items()}
        self.num_writes += 1

    # The server.

    def _time(self) -> list[str]:
        seconds, microseconds = divmod(self.now_us(), 1_000_000)
        return [str(seconds), str(microseconds)]

    def _info(self, section: str) -> str:
        return f"run_id:{self.run_id}\r\n"

    def _ping(self) -> str:
        return "PONG"

    def _evalsha(self, sha: str, num_keys: str, *words: str) -> Any:
        self.num_writes += 1
        count = int(num_keys)
        title, script = self._scripts[sha]
        keys, arguments = list(words[:count]), list(words[count:])
        answer = script(self.do, keys, arguments)
        if self.on_script is not None:
            self.on_script(title, keys, arguments, answer)
        return answer

    # Strings and bitmaps.

    def _get(self, key: str) -> str | None:
        if self._expires_ms.get(key, self.now_us()) * 1000 < self.now_us():
            self.data.pop(key, None)
            del self._expires_ms[key]
        return self.data.get(key)

    def _set(self, key: str, value: str, *options: str) -> str:
        self.data[key] = value
        self._expires_ms.pop(key, None)
        match options:
            case ("PX", ms):
                self._expires_ms[key] = self.now_us() // 1000 + int(ms)
            case (option, *_):
                raise UnknownCommand(f"SET with {option}")
        return "OK"

    def _mget(self, *keys: str) -> list[str | None]:
        return [self._get(key) for key in keys]

    def _del(self, *keys: str) -> int:
        return sum(self.data.pop(key, None) is not None for key in keys)

    def _exists(self, *keys: str) -> int:
        return sum(key in self.data for key in keys)

    def _expire(self, key: str, seconds: str) -> int:
        return int(key in self.data)  # no simulation is long enough to notice

    def _getbit(self, key: str, position: str) -> int:
        return int(int(position) in self.data.get(key, ()))

    def _setbit(self, key: str, position: str, bit: str) -> int:
        bits = self.data.setdefault(key, Bits())
        was_set = int(position) in bits
        (bits.add if bit == "1" else bits.discard)(int(position))
        return int(was_set)

    # Hashes.

    def _hget(self, key: str, field: str) -> str | None:
        return self.data.get(key, {}).get(field)

    def _hmget(self, key: str, *fields: str) -> list[str | None]:
        values = self.data.get(key, {})
        return [values.get(field) for field in fields]

    def _hgetall(self, key: str) -> list[str]:
        return [item for pair in self.data.get(key, {}).items() for item in pair]

    def _hkeys(self, key: str) -> list[str]:
        return list(self.data.get(key, ()))

    def _hexists(self, key: str, field: str) -> int:
        return int(field in self.data.get(key, ()))

    def _hset(self, key: str, *pairs: str) -> int:
        values = self.data.setdefault(key, {})
        num_known = len(values)
        values.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(values) - num_known

    def _hsetnx(self, key: str, field: str, value: str) -> int:
        return self._hset(key, field, value) if not self._hexists(key, field) else 0

    def _hdel(self, key: str, *fields: str) -> int:
        return self._drop(key, fields)

    def _hincrby(self, key: str, field: str, number: str) -> int:
        total = int(self._hget(key, field) or 0) + int(number)
        self._hset(key, field, str(total))
        return total

    # Sets and sorted sets.

    def _sadd(self, key: str, *members: str) -> int:
        known = self.data.setdefault(key, set())
        num_known = len(known)
        known.update(members)
        return len(known) - num_known

    def _srem(self, key: str, *members: str) -> int:
        return self._drop(key, members)

    def _smembers(self, key: str) -> list[str]:
        return sorted(self.data.get(key, ()))

    def _sscan(self, key: str, cursor: str, *options: str) -> list[Any]:
        return ["0", self._smembers(key)]

    def _zadd(self, key: str, *words: str) -> int:
        option = words[0] if words[0] in ("NX", "LT", "GT", "XX") else ""
        pairs = words[bool(option) :]
        scores = self.data.setdefault(key, {})
        num_known = len(scores)
        for score, member in zip(map(float, pairs[::2]), pairs[1::2], strict=True):
            known = scores.get(member)
            is_wanted = (
                known is not None
                if option == "XX"
                else known is None
                or option == ""
                or (option == "LT" and score < known)
                or (option == "GT" and score > known)
            )
            if is_wanted:
                scores[member] = score
        return len(scores) - num_known

    def _zrem(self, key: str, *members: str) -> int:
        return self._drop(key, members)

    def _zcard(self, key: str) -> int:
        return len(self.data.get(key, ()))

    def _zscore(self, key: str, member: str) -> str | None:
        score = self.data.get(key, {}).get(member)
        return None if score is None else _score(score)

    def _zmscore(self, key: str, *members: str) -> list[str | None]:
        return [self._zscore(key, member) for member in members]

    def _zrange(self, key: str, start: str, end: str, *options: str) -> list[str]:
        ranked = self._ranked(key)
        chosen = ranked[int(start) :] if end == "-1" else ranked[int(start) : int(end) + 1]
        return self._with_scores(key, chosen, options)

    def _zrangebyscore(self, key: str, low: str, high: str, *options: str) -> list[str]:
        scores = self.data.get(key, {})
        least, most = float(low), float(high)
        chosen = [member for member in self._ranked(key) if least <= scores[member] <= most]
        if "LIMIT" in options:
            place = options.index("LIMIT")
            start, count = int(options[place + 1]), int(options[place + 2])
            chosen = chosen[start:] if count < 0 else chosen[start : start + count]
        return self._with_scores(key, chosen, options)

    def _zrevrange(self, key: str, start: str, end: str) -> list[str]:
        ranked = self._ranked(key)[::-1]
        return ranked[int(start) :] if end == "-1" else ranked[int(start) : int(end) + 1]

    def _zrevrank(self, key: str, member: str) -> int | None:
        ranked = self._ranked(key)[::-1]
        return ranked.index(member) if member in ranked else None

    def _ranked(self, key: str) -> list[str]:
        """Order a sorted set as Redis does: by score, and at the same score by name."""
        scores = self.data.get(key)
        return sorted(scores, key=lambda member: (scores[member], member)) if scores else []

    def _with_scores(self, key: str, members: list[str], options: tuple[str, ...]) -> list[str]:
        if "WITHSCORES" not in options:
            return members
        scores = self.data[key] if members else {}
        return [item for member in members for item in (member, _score(scores[member]))]

    # Lists and streams.

    def _llen(self, key: str) -> int:
        return len(self.data.get(key, ()))

    def _lpush(self, key: str, value: str) -> int:
        waiting = self.data.setdefault(key, [])
        waiting.insert(0, value)
        return len(waiting)

    def _rpop(self, key: str) -> str | None:
        waiting = self.data.get(key)
        return waiting.pop() if waiting else None

    def _xadd(self, key: str, *words: str) -> str:
        return f"{self.now_us() // 1000}-0"  # nobody follows a job's events here

    def _drop(self, key: str, members: tuple[str, ...]) -> int:
        known = self.data.get(key)
        if known is None:
            return 0
        present = [member for member in members if member in known]
        for member in present:
            known.remove(member) if isinstance(known, set) else known.pop(member)
        if not known:  # a container that is empty does not exist
            del self.data[key]
        return len(present)


def _without_flags(source: str) -> str:
    return source.partition("\n")[2] if source.startswith("#!") else source


def _copied(value: Any) -> Any:
    return value if isinstance(value, str) else value.copy()


def _score(score: float) -> str:
    return str(int(score)) if score == int(score) else f"{score:.17g}"
