"""What `doctor` says of the API: whether it answers, who works for it, whether a token comes."""

import errno
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ..jobs.settings import Settings
from .client import Client
from .client_errors import ApiError, PenstockError
from .findings import Finding, Verdict
from .retry_policy import RetryPolicy
from .talk import Talk, ask, post

_TIMEOUT_S = 3.0
_CANARY_TIMEOUT_S = 60.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_FLOWER_PORT = 5555


def api_server(settings: Settings, *, was_named: bool) -> Iterator[Finding]:
    """Tell whether the API answers, and which workers it knows; one is missed only if named."""
    try:
        with Client(settings.url, settings.api_key, timeout_s=_TIMEOUT_S, max_retries=0) as client:
            workers = client.workers.list()
            yield Finding("api", "server", f"{settings.url} answers", Verdict.OK)
            yield from _guard(settings)
            for worker in workers:
                yield judged_worker(worker)
            try:
                ready = client.models.ready()
            except PenstockError as error:
                advice = "start a worker, or look into the log of the one that runs"
                yield Finding("api", "ready", str(error), Verdict.FAILURE, advice)
                return
            yield Finding("api", "ready", ", ".join(ready), Verdict.OK)
            for model in ready:
                yield _canary(client, model)
    except ApiError as error:
        advice = "give a key of scope admin: --api-key, or PENSTOCK_API_KEY"
        yield Finding("api", "server", str(error), Verdict.FAILURE, advice)
    except PenstockError as error:
        verdict = Verdict.FAILURE if was_named else Verdict.WARNING
        advice = "`penstock up` starts one here; PENSTOCK_URL names another"
        yield Finding("api", "server", str(error), verdict, advice)
        yield from _ports(settings)


def judged_worker(worker: Mapping[str, Any]) -> Finding:
    """Judge a worker by what it says of itself."""
    served = f"{worker.get('model')} {worker.get('revision', '')}".rstrip()
    told = f"{worker.get('name')} serves {served}"
    if worker.get("not_ready"):
        advice = "the worker tries again by itself; what it says must be mended"
        told = f"{worker.get('name')} does not serve {served} ({worker['not_ready']})"
        return Finding("api", "worker", told, Verdict.FAILURE, advice)
    return Finding("api", "worker", told)


def canary(model: str, retry: RetryPolicy) -> Talk[dict[str, Any]]:
    """Ask a model for one token."""
    body = {"model": model, "prompt": "1", "max_tokens": 1}
    send = replace(post("/v1/completions"), body=body, read_timeout_s=_CANARY_TIMEOUT_S)
    return (yield from ask(send, retry, lambda response: response.json()))


def _canary(client: Client, model: str) -> Finding:
    started_s = time.perf_counter()
    try:
        client.run(canary(model, client.retry))
    except PenstockError as error:
        advice = "GET /v1/workers and the worker's log tell more"
        return Finding("api", "canary", f"{model}: {error}", Verdict.FAILURE, advice)
    took_ms = (time.perf_counter() - started_s) * 1000
    return Finding("api", "canary", f"{model} made a token in {took_ms:.0f} ms", Verdict.OK)


def _guard(settings: Settings) -> Iterator[Finding]:
    """Tell of an API on another machine that asks for no key."""
    host = urlsplit(settings.url).hostname or ""
    if settings.api_key is None and host not in _LOOPBACK:
        advice = "penstock keys create, there; from then on it asks"
        yield Finding("api", "key", f"{host} asks for none", Verdict.WARNING, advice)


def _ports(settings: Settings) -> Iterator[Finding]:
    """Tell whether `penstock up` would find its ports free."""
    parts = urlsplit(settings.url)
    if parts.hostname not in _LOOPBACK:
        return
    wanted = {"api": parts.port or 80, "flower": _FLOWER_PORT}
    for name, port in wanted.items():
        if is_free(port):
            yield Finding("port", name, f"{port} is free", Verdict.OK)
        else:
            advice = f"stop what listens there, or choose another: penstock up --{name}-port"
            advice = advice.replace("--api-port", "--port")
            yield Finding("port", name, f"{port} is taken", Verdict.WARNING, advice)


def is_free(port: int) -> bool:
    """Tell whether somebody could listen on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True
