"""Sends cases to a server, and looks at what no case says because it holds for all of them.

Every answer of 400 or more has OpenAI's envelope and a request id, is never a 422 and gives nothing
of the server away. What the server says to a harmless request is the same after each case.
"""

import http.client
import json
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from .case import Case

_LEAKS = re.compile(rb"Traceback|File \"|/site-packages/|0x[0-9a-f]{6,}")
_ENVELOPE = {"message", "type", "param", "code"}


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 if the connection was closed without a word."""

    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float


class Replay:
    """A server, and a harmless request whose answer must never change."""

    def __init__(self, url: str, key: str, model: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._key = key
        self._model = model
        self._canary = self._ask_canary()

    def complaint(self, case: Case) -> str | None:
        """Send a case; return what is wrong with what came of it."""
        answer = self._send_raw(case) if case.is_raw else self._send(case)
        found = self._common_complaint(case, answer) or case.complaint(answer.status, answer.body)
        if found is None and self._ask_canary() != self._canary:
            found = "a harmless request is answered differently now"
        return found

    def _common_complaint(self, case: Case, answer: Answer) -> str | None:
        if answer.took_s > case.max_s:
            return f"took {answer.took_s:.1f} s, {case.max_s} s at most"
        if answer.status in (422, 500):
            return f"status {answer.status}: {answer.body[:300]!r}"
        if _LEAKS.search(answer.body) or self._key.encode() in answer.body:
            return f"gives something away: {answer.body[:300]!r}"
        if answer.status < 400:
            return None
        if "x-request-id" not in answer.headers:
            return "no x-request-id"
        try:
            error = json.loads(answer.body)["error"]
        except (ValueError, KeyError):
            return f"no envelope: {answer.body[:300]!r}"
        return None if error.keys() == _ENVELOPE else f"the envelope holds {sorted(error)}"

    def _send(self, case: Case) -> Answer:
        request = case.request()
        connection = http.client.HTTPConnection(*self._address, timeout=case.max_s + 50)
        began_s = time.monotonic()
        try:
            connection.putrequest(
                request.method, request.path.replace(" ", "%20"), skip_accept_encoding=True
            )
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.body is not None:
                connection.putheader("content-length", str(len(request.body)))
            with suppress(BrokenPipeError, ConnectionResetError):  # its answer may be there already
                connection.endheaders(request.body)
            response = connection.getresponse()
            body = response.read()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return Answer(0, {}, b"", time.monotonic() - began_s)
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body, time.monotonic() - began_s)

    def _send_raw(self, case: Case) -> Answer:
        began_s = time.monotonic()
        with socket.create_connection(self._address, timeout=case.max_s + 50) as connection:
            with suppress(ConnectionError):  # closed at once, perhaps with unread bytes of ours
                connection.sendall(case.raw_bytes())
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                body = response.read()
            except (http.client.HTTPException, ConnectionError):
                return Answer(0, {}, b"", time.monotonic() - began_s)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body, time.monotonic() - began_s)

    def _ask_canary(self) -> object:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0,
            "max_tokens": 4,
        }
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer.get("choices", answer)
