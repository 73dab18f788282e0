"""Celery's consumer, for a connection to Redis that breaks again while it is being mended.

Kombu 5.7 closes a connection by emptying its transport, and then trips over that (AttributeError)
when a message is handed back or acknowledged over it. Celery bears connection errors there and
nothing else, so the worker would exit. The messages are only hints: nothing is lost by either.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

logger = logging.getLogger(__name__)


class SteadyConsumer(Consumer):
    """Goes on to the next connection whatever becomes of the broken one."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the broken connection, as far as that is possible."""
        try:
            super().on_connection_error_after_connected(exc)
        except Exception:  # whatever it raises, the next connection is worth more than this one
            logger.warning("the broken connection to Redis cannot be closed", exc_info=True)

    def call_soon_ack(self, p: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message soon, if its connection is still open by then."""
        return super().call_soon_ack(_acknowledge, p, *args, **kwargs)


def _acknowledge(step: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    try:
        step(*args, **kwargs)
    except AttributeError as error:
        logger.warning("a message came over a connection that is closed by now: %s", error)
