"""A real uvicorn on a free loopback port, in a thread of the test's process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from penstock.api.http_protocol import PatientProtocol

_PATIENCE_S = 60.0


@contextmanager
def serving(
    app: ASGIApp,
    protocol: type[PatientProtocol] = PatientProtocol,
    grace_s: int = 5,
    port: int = 0,
) -> Iterator[str]:
    """Serve an application for as long as the block lasts; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        http=protocol,
        timeout_graceful_shutdown=grace_s,
        ws="none",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="uvicorn")
    thread.start()
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not server.started:
            assert thread.is_alive(), "the server ended before it was up; see its log"
            assert time.monotonic() < deadline, f"the server did not come up in {_PATIENCE_S:g} s"
            time.sleep(0.01)
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_S)
        listener.close()
        assert not thread.is_alive(), f"the server did not stop in {_PATIENCE_S:g} s"
