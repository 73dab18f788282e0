"""How messages reach the pool: two channels, each with its own credit. Knows Celery's consumer.

    bulk lane                    as many shards as keep the engine's window of rows full
    interactive and control      a channel of its own, so that a full bulk window delays neither

Queue priorities would not do: they reorder what is still in Redis, while a request behind a full
window waits for a whole shard.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

from celery import bootsteps
from celery.app.amqp import Queues
from kombu.common import ignore_errors
from kombu.messaging import Consumer

from .app import PenstockApp
from .pool import EnginePool


class BulkCredit(bootsteps.StartStopStep):
    """Replaces Celery's count of messages by the pool's credit of rows."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Attach the credit to the channel of this connection."""
        pool: EnginePool = parent.pool
        _limit(parent.task_consumer.channel, pool.has_bulk_room)


class ExpressLane(bootsteps.StartStopStep):
    """Consumes the interactive and the control lane beside the bulk one."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self._consumer: Any = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Open the channel; called again after every reconnection."""
        app: PenstockApp = parent.app
        pool: EnginePool = parent.pool
        channel = parent.connection.channel()
        self._consumer = Consumer(
            channel,
            queues=[app.lane("interactive", pool.model), app.control_lane],
            accept=app.conf.accept_content,
            on_decode_error=parent.on_decode_error,
        )
        self._consumer.on_message = parent.create_task_handler()
        _limit(channel, pool.has_express_room)
        self._consumer.consume()

    def stop(self, parent: Any) -> None:
        """Take no more messages; those in hand may still be acknowledged."""
        if self._consumer is not None:
            ignore_errors(parent.connection or parent.conninfo, self._consumer.cancel)

    def shutdown(self, parent: Any) -> None:
        """Close the channel."""
        if self._consumer is not None:
            self.stop(parent)
            channel, self._consumer = self._consumer.channel, None
            ignore_errors(parent.connection or parent.conninfo, channel.close)


def add_lanes(app: PenstockApp, model: str) -> None:
    """Make the workers of an application consume a model's lanes."""
    queues: Queues = app.amqp.queues
    queues.add(app.lane("bulk", model))
    steps: Any = app.steps
    steps["consumer"].update((BulkCredit, ExpressLane))


def _limit(channel: Any, has_room: Callable[[], bool]) -> None:
    channel.qos.can_consume = MethodType(lambda _qos: has_room(), channel.qos)
