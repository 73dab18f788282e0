"""Readers who take a stream through a straw: a few bytes a second, from a window that is full.

Knows sockets, no HTTP beyond the request that it sends. A client that merely waits between reads is
not slow: its system reads on for it, megabytes ahead. So the window of these is small, and so are
the segments in which the server may send, which keeps the server's own buffer small.
"""

import asyncio
import socket
import time
from dataclasses import dataclass, field

SIP_BYTES = 4
SIP_EVERY_S = 0.25
_WINDOW_BYTES = 4_096
_SEGMENT_BYTES = 536
_GULP_BYTES = 65_536


@dataclass(slots=True)
class Straw:
    """One slow stream, and what has come of it."""

    received: bytearray = field(default_factory=bytearray)
    ended_after_s: float | None = None  # from when it began, if the server has ended it

    async def read(self, host: str, port: int, request: bytes, until: asyncio.Event) -> None:
        """Sip until the event, then drink up whatever there still is."""
        loop = asyncio.get_running_loop()
        began_s = time.perf_counter()
        with _narrow_socket() as straw:
            await loop.sock_connect(straw, (host, port))
            await loop.sock_sendall(straw, request)
            try:
                while data := await loop.sock_recv(
                    straw, _GULP_BYTES if until.is_set() else SIP_BYTES
                ):
                    self.received += data
                    if not until.is_set():
                        await asyncio.sleep(SIP_EVERY_S)
            except ConnectionError:
                pass  # cut off, as a slow reader may be: what came before it counts
        self.ended_after_s = time.perf_counter() - began_s


def _narrow_socket() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
    made.setblocking(False)
    return made
