"""Ports of this machine for servers that a test starts, stops and starts again."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port that is ours for as long as the block lasts, whether or not anybody listens.

    It is bound here, and nobody listens: who asks for any free port gets another one, and a client
    is refused. A server that is told the number may listen there, as it sets SO_REUSEADDR too.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
