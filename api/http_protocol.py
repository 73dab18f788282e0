"""Reads HTTP from a connection: uvicorn's own reader over h11, with a limit to its patience.

A head that does not end in time closes the connection; left alone, uvicorn waits for it for ever.
More connections than there is room for take the place of one on which nothing happens, or are told
so; left alone, they would wait unheard until others leave. What is no HTTP at all is told in the
same envelope as any other refusal.
"""

import asyncio
import socket
import struct
from typing import Self, cast

import h11
import msgspec
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError, InvalidRequest, OtherStatus, Unavailable
from .long_poll import offer_shutdown
from .open_files import OpenFiles
from .request_context import new_request_id
from .sse import offer_to_hang_up

_IDLE = "penstock.idle"
_NO_LINGERING = struct.pack("ii", 1, 0)


class PatientProtocol(H11Protocol):
    """A connection that is closed when it keeps the server waiting for a request's head."""

    head_timeout_s = 10.0
    linger_s = 2.0
    min_idle_s = 1.0  # who has been silent for so long may have to make room
    open_files = staticmethod(OpenFiles.of_process)
    _head_timer: asyncio.TimerHandle | None = None
    _is_lingering = False
    _is_shutting_down = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start to wait for the first head, if one more connection is not too many."""
        super().connection_made(transport)
        room = self.open_files()
        num_beyond = len(self.connections) - room.connections
        if num_beyond <= 0 or self._make_room():
            self._wait_for_head()
        elif num_beyond <= room.refusals:
            message = f"{room.connections} connections are open already; come again soon"
            self._refuse(Unavailable(message, code="too_many_connections"))
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived, unless nothing more is wanted."""
        if not self._is_lingering:
            super().data_received(data)

    def handle_events(self) -> None:
        """Take in what has arrived; whatever is left of the next head is waited for."""
        super().handle_events()
        if self.scope is not None:
            scope = cast("Scope", self.scope)  # uvicorn's is its own type
            offer_to_hang_up(scope, self._hang_up)
            offer_shutdown(scope, lambda: self._is_shutting_down)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._wait_for_head()
        if self._head_timer is None and self.timeout_keep_alive_task is None:
            self._idle.pop(self, None)
        else:
            self._idle.setdefault(self)

    def shutdown(self) -> None:
        """Close, or after the answer that is under way."""
        self._is_shutting_down = True
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be read as HTTP, and close."""
        refusal = InvalidRequest(f"{msg} Send HTTP/1.1.", code="invalid_http")
        self._refuse(refusal)

    @property
    def idle_s(self) -> float:
        """How long nobody has asked for anything here."""
        if self._head_timer is not None:
            return self.head_timeout_s - (self._head_timer.when() - self.loop.time())
        if self.timeout_keep_alive_task is not None:
            since_s = self.timeout_keep_alive_task.when() - self.timeout_keep_alive
            return self.loop.time() - since_s
        return 0.0

    @property
    def _idle(self) -> dict[Self, None]:
        """The server's idle connections, longest first; what all of a server share is its state."""
        return self.app_state.setdefault(_IDLE, {})

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest, if for long enough."""
        idle = next(iter(self._idle), None)
        if idle is None or idle.idle_s < self.min_idle_s:
            return False
        del self._idle[idle]
        self.connections.discard(idle)
        idle.transport.abort()
        return True

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)
        self._idle.pop(self, None)  # who had begun before is idle anew
        self._idle[self] = None

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            message = f"the request's head did not end within {self.head_timeout_s:g} s"
            self._refuse(OtherStatus(408, message, {}))

    def _refuse(self, refusal: ApiError) -> None:
        body = msgspec.json.encode(refusal.envelope())
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            "x-request-id": new_request_id(),
            **refusal.headers(),
        }
        response = h11.Response(status_code=refusal.status, headers=list(headers.items()))
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._linger()

    def _hang_up(self) -> None:
        """End the connection with all that waits in it, in our buffer and in the system's."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self.transport.abort()

    def _linger(self) -> None:
        """Close when the other side has, or soon: closing on unread bytes would lose the answer."""
        self._is_lingering = True
        self._stop_waiting()
        self._idle.pop(self, None)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(self.linger_s, self.transport.close)
