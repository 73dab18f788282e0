"""Sends what is due, again until it is taken or given up. Knows deliveries and when, no HTTP.

Delivered at least once, in no promised order; nobody waits for it. Of the API processes of an
installation one sends, which a lock on the directory decides; the others stand by.
"""

import http.client
import logging
import secrets
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from .durable import StorageFull
from .public_address import RefusedAddress
from .sole_worker import SoleWorker
from .webhook_delivery import Deliveries, Delivery, DeliveryStatus
from .webhook_endpoints import Endpoint, WebhookEndpoints
from .webhook_sender import TIMEOUT_S, WebhookSender

RETRY_AFTER_S = (5, 300, 1_800, 7_200, 28_800, 86_400)  # after each failure; then it is given up
_SWEEP_EVERY_S = 3_600.0
_AT_ONCE = 16
_SAMPLES_AT_ONCE = 2  # by hands of their own: they hold up no event that counts
_AT_ONCE_PER_TENANT = 4  # so that one whose receivers are slow holds up nobody else

logger = logging.getLogger(__name__)


class WebhookOutbox:
    """Works through the deliveries, in threads of its own."""

    def __init__(
        self,
        directory: Path,
        endpoints: WebhookEndpoints,
        allowed_hosts: Collection[str] = (),
        *,
        retry_after_s: tuple[float, ...] = RETRY_AFTER_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._deliveries = Deliveries(directory)
        self._endpoints = endpoints
        self._sender = WebhookSender(allowed_hosts, timeout_s)
        self._retry_after_s = retry_after_s
        self._under_way: dict[str, tuple[str, Future[None]]] = {}  # id -> tenant and work
        self._samples: dict[str, Future[int]] = {}  # of each tenant
        self._swept_at_s = float("-inf")
        self._hands = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhooks")
        self._sampling = ThreadPoolExecutor(_SAMPLES_AT_ONCE, thread_name_prefix="webhook-samples")
        self._worker = SoleWorker(directory / "outbox.lock", self._tick)

    def start(self) -> None:
        """Start to send."""
        self._worker.start()

    def stop(self) -> None:
        """Stop at once; what was not delivered is sent by the next one."""
        self._worker.stop()
        pools = (self._hands, self._sampling)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        self._sender.cut_all()
        for pool in pools:
            pool.shutdown(wait=True)

    def announce(self, event_id: str, kind: str, data: dict[str, str], tenant: str) -> None:
        """Have every endpoint of the tenant told that wants to know; said twice, it is told once.

        Raises:
            StorageFull: there is no room to remember it.
        """
        now = int(time.time())
        for endpoint in self._endpoints.list(tenant):
            if kind in endpoint.event_types:
                self._deliveries.add(
                    Delivery(
                        id=f"{event_id}_{endpoint.id}",
                        event_id=event_id,
                        endpoint_id=endpoint.id,
                        type=kind,
                        body=_event_json(event_id, kind, data, now),
                        created_at=now,
                        next_at=now,
                        tenant=tenant,
                    )
                )

    def send_sample(self, endpoint: Endpoint, kind: str) -> "Future[int] | None":
        """Send an event about a batch that never was, once; the future holds the answer's status.

        It raises what `WebhookSender.send` raises. None while another sample of the tenant is on
        its way. For one thread to call.
        """
        self._samples = {k: each for k, each in self._samples.items() if not each.done()}
        if endpoint.tenant in self._samples:
            return None
        event_id = f"evt_sample_{secrets.token_hex(12)}"
        body = _event_json(event_id, kind, {"id": "batch_sample"}, int(time.time()))
        sent = self._sampling.submit(self._sender.send, endpoint, event_id, body)
        self._samples[endpoint.tenant] = sent
        return sent

    def deliveries(self, endpoint_id: str) -> list[Delivery]:
        """Return what is on its way to an endpoint, or was lately; newest first."""
        return self._deliveries.to(endpoint_id)

    def _tick(self) -> None:
        self._under_way = {k: each for k, each in self._under_way.items() if not each[1].done()}
        busy = Counter(tenant for tenant, _ in self._under_way.values())
        now = time.time()
        for delivery in self._deliveries.pending():
            is_free = busy[delivery.tenant] < _AT_ONCE_PER_TENANT
            if is_free and delivery.next_at <= now and delivery.id not in self._under_way:
                busy[delivery.tenant] += 1
                work = self._hands.submit(self._deliver, delivery)
                self._under_way[delivery.id] = delivery.tenant, work
        if time.monotonic() - self._swept_at_s > _SWEEP_EVERY_S:
            self._swept_at_s = time.monotonic()
            self._deliveries.sweep()

    def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._endpoints.find(delivery.endpoint_id)
        if endpoint is None:
            self._deliveries.drop(delivery)
            return
        status_code, error = None, None
        try:
            status_code = self._sender.send(endpoint, delivery.event_id, delivery.body)
            if not 200 <= status_code < 300:
                error = f"it answered {status_code}"
        except RefusedAddress as refusal:
            error = str(refusal)
        except (OSError, http.client.HTTPException) as fault:
            error = f"{type(fault).__name__}: {fault}"[:300]
        except Exception as fault:  # nobody foresaw it; it must not be tried for ever
            logger.exception("%s cannot be sent", delivery.id)
            error = f"{type(fault).__name__}: {fault}"[:300]
        if error is not None and self._worker.is_stopping:
            return  # it was we who broke it off
        try:
            self._deliveries.put(self._after(delivery, status_code, error))
        except (StorageFull, OSError) as trouble:
            logger.warning("%s is sent again: %s", delivery.id, trouble)

    def _after(self, delivery: Delivery, status_code: int | None, error: str | None) -> Delivery:
        """Return a delivery as it stands after a try."""
        num_tries = delivery.num_tries + 1
        status, next_at = DeliveryStatus.DELIVERED, delivery.next_at
        if error is not None and num_tries > len(self._retry_after_s):
            status = DeliveryStatus.FAILED
        elif error is not None:
            status = DeliveryStatus.PENDING
            next_at = time.time() + self._retry_after_s[num_tries - 1]
        return msgspec.structs.replace(
            delivery,
            status=status,
            num_tries=num_tries,
            status_code=status_code,
            error=error,
            next_at=next_at,
        )


def _event_json(event_id: str, kind: str, data: dict[str, str], now: int) -> str:
    event = {"id": event_id, "object": "event", "created_at": now, "type": kind, "data": data}
    return msgspec.json.encode(event).decode()
