"""Ports of this machine: opened for the stack, looked at, and named. Knows no part of it."""

import socket

from .client_errors import StackFailed

LOOPBACK = "127.0.0.1"


def listen(host: str, port: int) -> socket.socket:
    """Open the API's listening socket, which the process that serves it inherits.

    Raises:
        StackFailed: the port is taken, or not ours to take.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server(
            (host, port), family=family, backlog=1024, dualstack_ipv6=host == "::"
        )
    except OSError as error:
        raise StackFailed(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "--port 0 picks any free port"
        ) from error
    listener.set_inheritable(True)
    return listener


def check_free(flower_port: int) -> None:
    """Look whether Flower, which opens its own socket, will be able to.

    Raises:
        StackFailed: the port is taken, or not ours to take.
    """
    try:
        socket.create_server((LOOPBACK, flower_port)).close()
    except OSError as error:
        raise StackFailed(
            f"Flower cannot listen on {LOOPBACK}:{flower_port}: {error.strerror or error}; "
            "--flower-port 0 picks any free port, --no-flower does without it"
        ) from error


def can_listen(port: int) -> bool:
    """Look whether a port of this machine is free."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Find a port that nobody has just now."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return probe.getsockname()[1]


def for_url(host: str) -> str:
    """Write a host as clients on this machine reach it."""
    if host in ("0.0.0.0", "::"):
        return LOOPBACK
    return f"[{host}]" if ":" in host else host
