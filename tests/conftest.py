"""What every wing's tests share: one real Redis, emptied before each test that asks for it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from penstock.jobs.keys import Keys
from penstock.jobs.redis_server import RedisServer, RedisUnavailable
from penstock.jobs.settings import Settings

# Triton decides as it is imported whether it compiles kernels or interprets them, and something
# that some test imports may import it: here is the first place of all.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


# A shell that starts its jobs in the background has them ignore Ctrl-C, and so would every process
# of the tests, some of which are there to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of our own. Without one the test is skipped at home and fails in CI."""
    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"))
    except RedisUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty server."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client that gives text as `str`."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings of an empty data directory and an empty Redis."""
    return Settings(data=str(tmp_path / "data"), redis_url=redis_url, namespace="test")


@pytest.fixture
def keys(settings: Settings) -> Keys:
    """The key names of `settings`."""
    return Keys(settings.namespace)
