"""The queues as the product's app knows them: messages that may be lost, doubled or out of order.

They lie in the store, as kombu's do, so that a store rolled back brings them back, too. A message
that a worker took is gone with the worker: redelivery is a day away and never waited for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kombu.exceptions
import msgspec
import redis

from penstock.jobs.keys import Keys
from penstock.jobs.model import ShardRef
from penstock.jobs.settings import Settings
from penstock.jobs.tasks import GENERATE

from .client import StoreClient
from .faults import Plan
from .world import World


class Hint(msgspec.Struct, frozen=True):
    """One message: the task's name and its arguments."""

    task: str
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lane:
    """One queue, by name."""

    name: str


def hint_of(ref: ShardRef) -> str:
    """Write the message of a shard."""
    hint = Hint(GENERATE, {"job_id": ref.job_id, "index": ref.index})
    return msgspec.json.encode(hint).decode()


class _Producers:
    @contextmanager
    def acquire(self, block: bool) -> Iterator[None]:
        yield None


class HintApp:
    """As much of `PenstockApp` as publishes."""

    def __init__(self, settings: Settings, client: StoreClient, world: World, plan: Plan) -> None:
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self.producer_pool = _Producers()
        self.is_quiet = True
        self._client = client
        self._world = world
        self._plan = plan

    def lane(self, name: str, model: str) -> Lane:
        return Lane(self.keys.queue(name, model))

    @property
    def control_lane(self) -> Lane:
        return Lane(self.keys.control_queue)

    def close(self) -> None:
        """Nothing is open."""

    def send_task(self, name: str, *, kwargs: dict[str, Any], queue: Lane, **_: Any) -> None:
        hint = msgspec.json.encode(Hint(name, kwargs)).decode()
        random = self._world.random
        num_copies = 1
        if not self.is_quiet and random.random() < 2 * self._plan.store_rate:
            num_copies = random.choice((0, 2))
            self._world.note(f"hint {'lost' if num_copies == 0 else 'doubled'}: {hint}")
        try:
            for _copy in range(num_copies):
                self._client.lpush(queue.name, hint)
        except redis.RedisError as error:
            raise kombu.exceptions.OperationalError(str(error)) from error

    def take(self, queue: Lane) -> Hint | None:
        """Take the next message, as a worker does."""
        hint: Any = self._client.rpop(queue.name)
        return None if hint is None else msgspec.json.decode(hint, type=Hint)
