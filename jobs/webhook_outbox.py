"""Events on their way to endpoints: each is sent until it is taken, or given up. Knows HTTP.

    webhooks/outbox/evt_…_wh_….json    one event for one endpoint, and how often it was tried

Signed as the Standard Webhooks ask (https://www.standardwebhooks.com), so that OpenAI's client
unwraps it. Delivered at least once, in no promised order; nobody waits for it.
"""

import base64
import hashlib
import hmac
import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from .durable import StorageFull, create_file, make_directories, replace_file
from .public_address import PublicAddress, RefusedAddress, public_address
from .webhook_endpoints import Endpoint, WebhookEndpoints

RETRY_AFTER_S = (5, 300, 1_800, 7_200, 28_800, 86_400)  # after each failure; then it is given up
KEPT_S = 7 * 86_400  # deliveries that have ended, for whoever looks
TIMEOUT_S = 10.0
_TICK_S = 0.5
_AT_ONCE = 8

logger = logging.getLogger(__name__)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one endpoint. Times are seconds since 1970."""

    id: str
    event_id: str
    endpoint_id: str
    type: str
    body: str
    created_at: int
    next_at: float
    status: str = "pending"  # or delivered, or failed
    num_tries: int = 0
    status_code: int | None = None
    error: str | None = None


class WebhookOutbox:
    """Sends what is due, in threads of its own."""

    def __init__(
        self,
        directory: Path,
        endpoints: WebhookEndpoints,
        allowed_hosts: Collection[str] = (),
        *,
        retry_after_s: tuple[float, ...] = RETRY_AFTER_S,
    ) -> None:
        self._directory = directory
        self._endpoints = endpoints
        self._allowed_hosts = allowed_hosts
        self._retry_after_s = retry_after_s
        self._stopping = threading.Event()
        self._under_way: dict[str, Future[None]] = {}
        self._hands = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhooks")
        self._thread = threading.Thread(target=self._run, name="webhook-outbox", daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what was not delivered is sent by the next one."""
        self._stopping.set()
        self._thread.join()
        self._hands.shutdown(wait=True, cancel_futures=True)

    def announce(self, event_id: str, kind: str, data: dict[str, str], tenant: str) -> None:
        """Have every endpoint of the tenant told that wants to know; said twice, it is told once.

        Raises:
            StorageFull: there is no room to remember it.
        """
        now = int(time.time())
        event = {
            "id": event_id,
            "object": "event",
            "created_at": now,
            "type": kind,
            "data": data,
        }
        for endpoint in self._endpoints.list(tenant):
            if kind in endpoint.event_types:
                delivery = Delivery(
                    id=f"{event_id}_{endpoint.id}",
                    event_id=event_id,
                    endpoint_id=endpoint.id,
                    type=kind,
                    body=msgspec.json.encode(event).decode(),
                    created_at=now,
                    next_at=now,
                )
                make_directories(self._directory)
                create_file(self._path(delivery.id), msgspec.json.encode(delivery))

    def deliveries(self, endpoint_id: str) -> list[Delivery]:
        """Return what is on its way to an endpoint, or was lately; newest first."""
        paths = self._directory.glob(f"*_{endpoint_id}.json")
        found = [each for path in paths if (each := _read(path)) is not None]
        return sorted(found, key=lambda each: each.created_at, reverse=True)

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_S):
            try:
                self._tick()
            except OSError as error:
                logger.warning("webhooks wait: %s", error)

    def _tick(self) -> None:
        self._under_way = {k: each for k, each in self._under_way.items() if not each.done()}
        now = time.time()
        for path in self._directory.glob("*.json"):
            if path.stem in self._under_way:
                continue
            delivery = _read(path)
            if delivery is None:
                continue
            if delivery.status != "pending":
                if now - delivery.created_at > KEPT_S:
                    path.unlink(missing_ok=True)
            elif delivery.next_at <= now:
                self._under_way[delivery.id] = self._hands.submit(self._deliver, delivery)

    def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._endpoints.find(delivery.endpoint_id)
        if endpoint is None:
            self._path(delivery.id).unlink(missing_ok=True)
            return
        status_code, error = None, None
        try:
            status_code = self.send(endpoint, delivery.event_id, delivery.body)
            if not 200 <= status_code < 300:
                error = f"it answered {status_code}"
        except RefusedAddress as refusal:
            error = str(refusal)
        except (OSError, http.client.HTTPException) as fault:
            error = f"{type(fault).__name__}: {fault}"[:300]
        try:
            self._note(delivery, status_code, error)
        except StorageFull as full:
            logger.warning("%s is sent again: %s", delivery.id, full)

    def _note(self, delivery: Delivery, status_code: int | None, error: str | None) -> None:
        num_tries = delivery.num_tries + 1
        status, next_at = "delivered", delivery.next_at
        if error is not None:
            is_over = num_tries > len(self._retry_after_s)
            status = "failed" if is_over else "pending"
            if not is_over:
                next_at = time.time() + self._retry_after_s[num_tries - 1]
        noted = msgspec.structs.replace(
            delivery,
            status=status,
            num_tries=num_tries,
            status_code=status_code,
            error=error,
            next_at=next_at,
        )
        replace_file(self._path(delivery.id), msgspec.json.encode(noted))

    def send(self, endpoint: Endpoint, event_id: str, body: str) -> int:
        """Send an event once; return the status of the answer. Redirects are not followed.

        Raises:
            RefusedAddress: the endpoint leads to where we do not go.
            OSError, http.client.HTTPException: it does not answer, or not in HTTP.
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
        connection = _Connection(where)
        try:
            connection.request("POST", where.target, body.encode(), headers)
            return connection.getresponse().status  # what it has to say besides is not read
        finally:
            connection.close()

    def _path(self, delivery_id: str) -> Path:
        return self._directory / f"{delivery_id}.json"


def signature(secret: str, event_id: str, timestamp: str, body: str) -> str:
    """Sign an event: HMAC-SHA256 over id, timestamp and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


class _Connection(http.client.HTTPConnection):
    """Connects to the address that was checked, and asks for the certificate of the name."""

    def __init__(self, where: PublicAddress) -> None:
        super().__init__(where.host, where.port, timeout=TIMEOUT_S)
        self._where = where

    def connect(self) -> None:
        plain = socket.create_connection((self._where.address, self._where.port), TIMEOUT_S)
        if self._where.scheme == "http":
            self.sock = plain
            return
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(plain, server_hostname=self._where.host)


def _read(path: Path) -> Delivery | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Delivery)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
