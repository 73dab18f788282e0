"""Celery's consumer, for a connection to Redis that breaks again while it is being mended."""

import logging

from celery.worker.consumer import Consumer

logger = logging.getLogger(__name__)


class SteadyConsumer(Consumer):
    """Goes on to the next connection also when the broken one cannot be closed.

    Kombu 5.7 closes a channel by handing its messages back over a transport that it may have
    emptied already. Celery bears connection errors there and nothing else, so the worker would
    exit; the messages are only hints, and their shards' leases bring them back.
    """

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the broken connection, as far as that is possible."""
        try:
            super().on_connection_error_after_connected(exc)
        except Exception:
            logger.warning("the broken connection to Redis cannot be closed", exc_info=True)
