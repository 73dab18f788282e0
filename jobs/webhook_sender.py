"""Sends an event to an endpoint, once, within a time. Knows HTTP and signatures, no file.

Signed as the Standard Webhooks ask (https://www.standardwebhooks.com), so that OpenAI's client
unwraps it.
"""

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Collection
from contextlib import suppress

from .public_address import PublicAddress, public_address
from .webhook_endpoints import Endpoint

TIMEOUT_S = 10.0  # for the whole of it, however slowly it goes on


class WebhookSender:
    """Sends events, from several threads."""

    def __init__(self, allowed_hosts: Collection[str] = (), timeout_s: float = TIMEOUT_S) -> None:
        self._allowed_hosts = allowed_hosts
        self._timeout_s = timeout_s
        self._open: set[_Connection] = set()

    def send(self, endpoint: Endpoint, event_id: str, body: str) -> int:
        """Send an event; return the status of the answer. Redirects are not followed.

        Raises:
            RefusedAddress: the endpoint leads to where we do not go.
            OSError, http.client.HTTPException: it does not answer in time, or not in HTTP.
        """
        where = public_address(endpoint.url, self._allowed_hosts)
        timestamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "user-agent": "penstock-webhooks",
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(
                signature(secret, event_id, timestamp, body)
                for secret in endpoint.secrets_in_force()
            ),
        }
        connection = _Connection(where, self._timeout_s)
        self._open.add(connection)
        watch = threading.Timer(self._timeout_s, connection.cut)
        watch.start()
        try:
            connection.request("POST", where.target, body.encode(), headers)
            return connection.getresponse().status  # what it has to say besides is not read
        finally:
            watch.cancel()
            self._open.discard(connection)
            connection.close()

    def cut_all(self) -> None:
        """Break off whatever is being sent."""
        for connection in list(self._open):
            connection.cut()


def signature(secret: str, event_id: str, timestamp: str, body: str) -> str:
    """Sign an event: HMAC-SHA256 over id, timestamp and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


class _Connection(http.client.HTTPConnection):
    """Connects to the address that was checked, and asks for the certificate of the name."""

    def __init__(self, where: PublicAddress, timeout_s: float) -> None:
        super().__init__(where.host, where.port, timeout=timeout_s)
        self._where = where

    def connect(self) -> None:
        self.sock = socket.create_connection((self._where.address, self._where.port), self.timeout)
        if self._where.scheme == "https":
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self._where.host)

    def cut(self) -> None:
        """Let whoever waits for this connection see it broken."""
        with suppress(OSError, AttributeError):  # it was not open yet, or is not any more
            self.sock.shutdown(socket.SHUT_RDWR)
