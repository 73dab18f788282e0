"""The scripts in `scripts/`, made known to Redis. Knows how one is put together, no more."""

from functools import cache
from pathlib import Path

import redis
from redis.commands.core import Script

_DIRECTORY = Path(__file__).parent / "scripts"


def register(client: redis.Redis, name: str) -> Script:
    """Return a script as something to be called, on this client."""
    return client.register_script(_source(name))


@cache
def _source(name: str) -> str:
    """Read a script: its own first line carries the flags, then the prelude, then its body."""
    flags, body = (_DIRECTORY / f"{name}.lua").read_text().split("\n", 1)
    prelude = (_DIRECTORY / "prelude.lua").read_text()
    return f"{flags}\n{prelude}\n{body}"
