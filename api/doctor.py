"""The verb doctor: what is in force here, and what works. Looks and reports, changes nothing."""

import importlib.metadata
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import cast

import typer

from ..jobs.redis_url import without_password
from ..jobs.settings import Settings
from .cli_options import ApiKey, Config, Data, Output, Url
from .cli_output import Printer
from .client import Client
from .client_errors import PenstockError

_PACKAGES = (
    "penstock",
    "httpx2",
    "celery",
    "redis",
    "fastapi",
    "starlette",
    "python-multipart",
    "jinja2",
    "pyarrow",
    "flower",
    "torch",
    "transformers",
    "triton",
)
# Lower than what our own metadata asks for these never are; below them are known holes.
_SAFE_VERSION = {
    "jinja2": "3.1.6",  # CVE-2025-27516: a way out of the sandbox that templates run in
    "python-multipart": "0.0.27",  # CVE-2026-42561: uploads that take the processor for themselves
    "starlette": "0.49.1",  # CVE-2025-62727: likewise by one Range header
    "pyarrow": "14.0.1",  # CVE-2023-47248: code in a Parquet file
    "torch": "2.6",  # CVE-2025-32434: code in weights; we read none of that kind
}
_CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
_SECRETS = frozenset({"api_key"})
_LITTLE_DISK_GB = 5
# The first release of each line in which CVE-2025-49844 is mended: a script that breaks out.
_SAFE_PATCH = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)[^;]*?>=(?P<version>[0-9.]+)")
_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` is None where there is nothing to judge."""

    topic: str
    name: str
    value: str
    ok: bool | None = None
    source: str = ""


def doctor(
    data: Data = None,
    config: Config = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Show the settings in force, versions, and whether the parts can be reached."""
    printer = Printer(output)
    settings, sources = Settings.load_with_sources(toml=config, data=data, url=url, api_key=api_key)
    findings = [
        *settings_in_force(settings, sources),
        *versions(),
        *machine(settings),
        *redis_server(settings),
        *api_server(settings, was_named=sources["url"] != "default"),
    ]
    if printer.is_json:
        for finding in findings:
            printer.json_line(asdict(finding))
    else:
        marks = {True: "ok", False: "!!", None: ""}
        printer.table(
            ("", "what", "name", "value", "from"),
            ((marks[each.ok], each.topic, each.name, each.value, each.source) for each in findings),
        )
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def settings_in_force(settings: Settings, sources: dict[str, str]) -> Iterator[Finding]:
    """Tell every setting and where it comes from; secrets are masked."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name in _SECRETS and value is not None:
            value = "***"
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        if item.name == "redis_url":
            text = without_password(text)
        yield Finding("setting", item.name, text, source=sources[item.name])


def versions() -> Iterator[Finding]:
    """Tell the versions of what is installed, and which of them are too old."""
    yield Finding("version", "python", platform.python_version())
    at_least = _minimums()
    for package in _PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("version", package, "not installed")
            continue
        safe = _SAFE_VERSION.get(package, "0")
        lowest = max(at_least.get(package, "0"), safe, key=_numbers)
        if _numbers(version) >= _numbers(lowest):
            yield Finding("version", package, version)
        elif _numbers(version) < _numbers(safe):
            told = f"{version} has a known hole: install {lowest}"
            yield Finding("version", package, told, False)
        else:
            yield Finding("version", package, f"{version} is too old: install {lowest}", False)


def server_finding(info: Mapping[str, object]) -> Finding:
    """Judge a Redis server by what it says of itself: a known hole is a fault."""
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version"))
    major, minor, patch = (*_numbers(version), 0, 0, 0)[:3]
    safe = _SAFE_PATCH[kind]
    is_safe = (major, minor) > max(safe) or patch >= safe.get((major, minor), math.inf)
    if is_safe:
        return Finding("redis", "server", f"answers, {kind} {version}", True)
    known = ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in safe.items())
    text = f"{kind} {version} lets scripts break out (CVE-2025-49844); mended in {known} and later"
    return Finding("redis", "server", text, False)


def embedded_finding(program: Path) -> Finding:
    """Judge the server that `up` would start, likewise."""
    from ..jobs.redis_server import server_release

    release = server_release(program)
    if release is None:
        return Finding("redis", "embedded", f"{program} does not tell its version", False)
    kind, version = release
    finding = server_finding({f"{kind}_version": version})
    value = f"{kind} {version}" if finding.ok else finding.value
    return replace(finding, name="embedded", value=value)


def _minimums() -> dict[str, str]:
    """Read from our own metadata which versions we ask for."""
    try:
        asked = importlib.metadata.requires("penstock") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (_REQUIREMENT.match(each) for each in asked)
    return {each["name"].lower(): each["version"] for each in found if each is not None}


def _numbers(version: str) -> tuple[int, ...]:
    """Read the leading numbers: 2.13.0+cpu is (2, 13, 0)."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(each) for each in numbers[0].split(".")) if numbers else ()


def machine(settings: Settings) -> Iterator[Finding]:
    """Tell what the machine has: cores, instructions, GPUs, room on the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = ", ".join(_cpu_features()) or "none of note"
    yield Finding("machine", "cpu", f"{platform.machine()}, {cores} cores, {found}")
    yield Finding("machine", "gpu", _gpus() or "none")
    where = settings.data_dir
    while not where.exists():
        where = where.parent
    free_gb = shutil.disk_usage(where).free / 1e9
    room = f"{free_gb:,.0f} GB free at {where}"
    yield Finding("machine", "disk", room, free_gb > _LITTLE_DISK_GB)


def redis_server(settings: Settings) -> Iterator[Finding]:
    """Tell whether Redis answers, or which server `up` would start."""
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
            yield Finding("redis", "embedded", str(error), False)
            return
        yield replace(embedded_finding(program), source=str(program))
        return
    try:
        with redis.Redis.from_url(settings.redis_url, socket_timeout=_TIMEOUT_S) as client:
            info = cast("dict[str, str]", client.info("server"))
        yield server_finding(info)
    except (redis.RedisError, ValueError) as error:
        yield Finding("redis", "server", f"{without_password(settings.redis_url)}: {error}", False)


def api_server(settings: Settings, *, was_named: bool) -> Iterator[Finding]:
    """Tell whether the API answers, and which workers it knows; one is missed only if named."""
    try:
        with Client(settings.url, settings.api_key, timeout_s=_TIMEOUT_S, max_retries=0) as client:
            workers = client.workers.list()
            yield Finding("api", "server", f"{settings.url} answers", True)
            for worker in workers:
                served = f"{worker.get('model')} {worker.get('revision', '')}".rstrip()
                yield Finding("api", "worker", f"{worker.get('name')} serves {served}")
            try:
                yield Finding("api", "ready", ", ".join(client.models.ready()), True)
            except PenstockError as error:
                yield Finding("api", "ready", str(error), False)
    except PenstockError as error:
        yield Finding("api", "server", str(error), False if was_named else None)


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = set(value.split())
            return [feature for feature in _CPU_FEATURES if feature in flags]
    return []


def _gpus() -> str:
    """Ask the driver's own tool, so that torch need not be loaded."""
    try:
        query = [
            "nvidia-smi",
            "--query-gpu=name,memory.total,driver_version",
            "--format=csv,noheader",
        ]
        answer = subprocess.run(
            query, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return "; ".join(answer.stdout.splitlines())
