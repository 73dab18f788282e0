"""A pytest plugin: whoever looks for a host beyond this machine fails the run, were it in a thread
that hides its errors. Knows no client.
"""

import sys
from typing import Any

import pytest

_strangers: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):  # else a Unix socket
        host = arguments[1][0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost"):
        _strangers.append(f"{event} {host}")
        raise PermissionError(f"tests stay on this machine; somebody asked for {host}")


def pytest_configure() -> None:
    sys.addaudithook(_watch)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _strangers:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for stranger in _strangers:
        terminalreporter.line(f"asked beyond this machine: {stranger}", red=True)
