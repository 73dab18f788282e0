"""Events on their way to endpoints, as they lie on disk. Knows no HTTP and no clock but the date.

webhooks/outbox/pending/evt_…_wh_….json    one event for one endpoint, how often it was tried
            ended/                     delivered or given up, kept for whoever looks
"""

import logging
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

from .durable import create_file, make_directories, replace_file

KEPT_S = 7 * 86_400

logger = logging.getLogger(__name__)


class DeliveryStatus(StrEnum):
    """How a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one endpoint. Times are seconds since 1970."""

    id: str
    event_id: str
    endpoint_id: str
    type: str
    body: str
    created_at: int
    next_at: float
    tenant: str = "default"
    status: DeliveryStatus = DeliveryStatus.PENDING
    num_tries: int = 0
    status_code: int | None = None
    error: str | None = None


class Deliveries:
    """The deliveries of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._pending = directory / "pending"
        self._ended = directory / "ended"

    def add(self, delivery: Delivery) -> None:
        """Remember a delivery, durably, unless it is known.

        Raises:
            StorageFull: there is no room to remember it.
        """
        name = f"{delivery.id}.json"
        make_directories(self._pending)
        if not (self._ended / name).exists():
            create_file(self._pending / name, msgspec.json.encode(delivery))

    def put(self, delivery: Delivery) -> None:
        """Note how a delivery stands now.

        Raises:
            StorageFull: there is no room to note it.
        """
        path = self._pending / f"{delivery.id}.json"
        if delivery.status is DeliveryStatus.PENDING:
            replace_file(path, msgspec.json.encode(delivery))
            return
        make_directories(self._ended)
        replace_file(self._ended / path.name, msgspec.json.encode(delivery))
        path.unlink(missing_ok=True)

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery."""
        (self._pending / f"{delivery.id}.json").unlink(missing_ok=True)

    def pending(self) -> Iterator[Delivery]:
        """Yield what has not ended."""
        return self._all(self._pending, "*.json")

    def to(self, endpoint_id: str) -> list[Delivery]:
        """Return what is on its way to an endpoint, or was lately; newest first."""
        pattern = f"*_{endpoint_id}.json"
        found = {each.id: each for each in self._all(self._pending, pattern)}
        found |= {each.id: each for each in self._all(self._ended, pattern)}  # by now, perhaps
        return sorted(found.values(), key=lambda each: each.created_at, reverse=True)

    def sweep(self) -> None:
        """Forget what ended long ago."""
        for path in self._ended.glob("*.json"):
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink(missing_ok=True)

    def _all(self, directory: Path, pattern: str) -> Iterator[Delivery]:
        for path in directory.glob(pattern):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Delivery)
            except FileNotFoundError:  # it has just ended
                continue
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                logger.error("%s cannot be read and is passed over: %s", path.name, error)
