"""One end of the socket between a worker and its engine process. Knows bytes, not what they mean.

Neither side ever blocks on the other: `send` only queues, and one thread per end moves the bytes.
(Celery's own event loop could watch the socket, but it stands still while Celery reconnects to
Redis, and rows must go on meanwhile.)
"""

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .frames import BrokenFrame, Frame, FrameDecoder, encode

_READ_SIZE = 1 << 18
_LARGEST_BACKLOG = 256 * 1024 * 1024


class FrameLink:
    """Sends and receives frames over a connected socket, which it owns from now on.

    `run` belongs to one thread and returns when the connection ends; every other method may be
    called from any thread.
    """

    def __init__(self, connection: socket.socket, kind: Any) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._decoder = FrameDecoder(kind)
        self._lock = threading.Lock()
        self._outgoing: deque[memoryview] = deque()
        self._backlog = 0
        self._is_closing = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    def send(self, frame: Frame) -> None:
        """Queue a frame. After the end of the connection it is dropped, as the wire would.

        Raises:
            BrokenFrame: the frame is too large.
        """
        data = encode(frame)
        with self._lock:
            if self._is_closing:
                return
            self._backlog += len(data)
            if self._backlog > _LARGEST_BACKLOG:  # the other side reads nothing: it is broken
                self._is_closing = True
            else:
                self._outgoing.append(memoryview(data))
            self._wake()

    def close(self) -> None:
        """Ask `run` to end the connection and return."""
        with self._lock:
            if not self._is_closing:
                self._is_closing = True
                self._wake()

    def run(
        self,
        on_frame: Callable[[Any], None],
        *,
        on_tick: Callable[[], None] = lambda: None,
        tick_s: float = 0.5,
    ) -> str:
        """Move bytes until the connection ends; return why it did.

        `on_tick` is called at least every `tick_s`; what it or `on_frame` raises ends the run.
        """
        selector = selectors.DefaultSelector()
        selector.register(self._wake_reader, selectors.EVENT_READ)
        selector.register(self._connection, selectors.EVENT_READ)
        try:
            while True:
                with self._lock:
                    if self._is_closing:
                        return "closed"
                    wanted = selectors.EVENT_READ
                    if self._outgoing:
                        wanted |= selectors.EVENT_WRITE
                selector.modify(self._connection, wanted)
                for key, events in selector.select(tick_s):
                    if key.fileobj is self._wake_reader:
                        self._drain_wake()
                        continue
                    if events & selectors.EVENT_WRITE:
                        self._write()
                    if events & selectors.EVENT_READ:
                        data = self._read()
                        if data == b"":
                            return "the other side is gone"
                        for frame in self._decoder.feed(data or b""):
                            on_frame(frame)
                on_tick()
        except BrokenFrame as error:
            return f"garbage on the socket: {error}"
        except OSError as error:
            return f"the socket failed: {error}"
        finally:
            with self._lock:
                self._is_closing = True
                self._outgoing.clear()
                for end in (self._connection, self._wake_reader, self._wake_writer):
                    end.close()
            selector.close()

    def _read(self) -> bytes | None:
        try:
            return self._connection.recv(_READ_SIZE)
        except BlockingIOError:
            return None

    def _write(self) -> None:
        with self._lock:
            waiting = list(self._outgoing)
        if not waiting:
            return
        try:
            num_sent = self._connection.sendmsg(waiting[:64])
        except BlockingIOError:
            return
        with self._lock:
            self._backlog -= num_sent
            while num_sent:
                first = self._outgoing.popleft()
                if num_sent < len(first):
                    self._outgoing.appendleft(first[num_sent:])
                    break
                num_sent -= len(first)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: a wake-up is pending already
            self._wake_writer.send(b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(OSError):
            while self._wake_reader.recv(4096):
                pass
