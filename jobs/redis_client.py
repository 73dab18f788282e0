"""Connections to Redis, for threads and for an event loop, with the same patience everywhere."""

from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from .redis_server import RedisUnavailable
from .settings import Settings

_CONNECT_TIMEOUT_S = 2.0
_MAX_ASYNC_CONNECTIONS = 4_096  # every follower of a job's events holds one


def connect(settings: Settings, *, socket_timeout_s: float = 5.0) -> redis.Redis:
    """Return a client for threads; it connects when first used, and text comes back as `str`.

    A connection that was cut is replaced once; beyond that the caller decides how long to wait.
    """
    return redis.Redis.from_url(
        _url(settings), **_options(socket_timeout_s), retry=Retry(NoBackoff(), 1)
    )


def connect_async(settings: Settings, *, socket_timeout_s: float = 5.0) -> redis.asyncio.Redis:
    """Return a client for an event loop, with the patience of `connect`."""
    from redis.asyncio.retry import Retry as AsyncRetry

    return redis.asyncio.Redis.from_url(
        _url(settings),
        **_options(socket_timeout_s),
        retry=AsyncRetry(NoBackoff(), 1),
        max_connections=_MAX_ASYNC_CONNECTIONS,
    )


def _url(settings: Settings) -> str:
    if not settings.redis_url:
        raise RedisUnavailable(
            "no Redis is named: set PENSTOCK_REDIS_URL, or run `penstock up`, which brings its own"
        )
    return settings.redis_url


def _options(socket_timeout_s: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": min(_CONNECT_TIMEOUT_S, socket_timeout_s),
        "health_check_interval": 25,
    }
