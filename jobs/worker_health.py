"""What may be asked of one worker over HTTP, for whoever restarts it. Knows no Redis and no Celery.

    GET /healthz   200 as long as somebody looks after the engine: 503 calls for a restart
    GET /readyz    200 when a row came through the engine lately: 503 says what it waits for

Neither asks Redis: when that is away a new worker would fare no better, and would load its model
again. An engine that dies or hangs is replaced by the worker itself, so that is no reason either.
"""

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from .station import Station
from .workers import PROOF_MAX_AGE_MS

_IDLE_S = 5.0  # for a request that is never finished

Answer = tuple[HTTPStatus, str]


class WorkerHealth:
    """Answers health checks on one address. `start` and `stop` come in pairs; a `with` does both.

    Attributes:
        address: host and port that it listens on; port 0 has become a real one.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, station: Station, host: str, port: int) -> None:
        answers = {"/healthz": lambda: alive(station), "/readyz": lambda: ready(station)}
        self._server = ThreadingHTTPServer((host, port), _handler(answers))
        self._server.daemon_threads = True
        self.address: tuple[str, int] = (host, self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    def start(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def alive(station: Station) -> Answer:
    """Say whether the worker can still do its work, now or when its engine is there again."""
    if station.engine.is_attended:
        return HTTPStatus.OK, "ok"
    return HTTPStatus.SERVICE_UNAVAILABLE, "nobody looks after the engine any more"


def ready(station: Station) -> Answer:
    """Say whether a row would come through the engine now, as the last one did."""
    engine = station.engine
    progress = engine.progress
    if engine.ready is None or progress is None:
        return HTTPStatus.SERVICE_UNAVAILABLE, engine.trouble or "the engine is being loaded"
    if station.reporter.is_draining:
        return HTTPStatus.SERVICE_UNAVAILABLE, "the worker stops"
    age_ms = time.time() * 1000 - progress.proved_at_ms
    if age_ms > PROOF_MAX_AGE_MS:
        told = f"no row came through the engine in the last {PROOF_MAX_AGE_MS // 1000} s"
        return HTTPStatus.SERVICE_UNAVAILABLE, told
    return HTTPStatus.OK, "ready"


def _handler(answers: dict[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_S
        server_version = "penstock"
        sys_version = ""

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            if answer is None:
                self._answer(HTTPStatus.NOT_FOUND, f"there are {' and '.join(answers)}")
            else:
                self._answer(*answer())

        def log_message(self, format: str, *args: object) -> None:
            pass  # a line every few seconds would hide all others

        def _answer(self, status: HTTPStatus, text: str) -> None:
            body = json.dumps({"status": text}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
