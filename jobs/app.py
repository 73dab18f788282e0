"""The Celery application: its settings, its queues, its tasks. Does not know who runs them.

A message here is only a hint that there is work; the job table, and the job directory behind it,
are the truth. So a lost or doubled message costs a little time and never a row.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery
from kombu.entity import Exchange, Queue

from .keys import Keys
from .redis_server import RedisUnavailable
from .settings import Settings
from .tasks import register_tasks

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker process is to do: serve this model, under this name."""

    model: str
    worker: str


class PenstockApp(Celery):
    """A Celery application that knows Penstock's settings.

    Attributes:
        settings: what is in force.
        keys: names of all keys and queues.
        assignment: what this process serves; None where it only publishes.
        outcomes: how engine tasks ended, by task id, from the moment the engine is done with one
            until Celery's own trace has run for it (see `pool.EnginePool`).
    """

    def __init__(
        self, settings: Settings, assignment: Assignment | None = None, **options: Any
    ) -> None:
        self.settings = settings
        self.assignment = assignment
        self.keys = Keys(settings.namespace)
        self.outcomes: dict[str, Any] = {}
        super().__init__("penstock", set_as_current=False, **options)

    def lane(self, name: str, model: str) -> Queue:
        """Return the queue of a lane (bulk, interactive) of one model."""
        return _queue(self.keys.queue(name, model))

    @property
    def control_lane(self) -> Queue:
        """Return the queue of small chores."""
        return _queue(self.keys.control_queue)


def create_app(
    settings: Settings,
    *,
    assignment: Assignment | None = None,
    socket_timeout_s: float = 10.0,
) -> PenstockApp:
    """Build the application; nothing connects yet. The API takes a short `socket_timeout_s`.

    Raises:
        RedisUnavailable: the settings name no Redis.
    """
    app = PenstockApp(settings, assignment)
    namespace = settings.namespace
    app.conf.update(
        broker_url=broker_url(settings),
        task_queues=[app.control_lane],
        task_default_queue=app.keys.control_queue,
        task_create_missing_queues=False,  # an unknown queue is an error where it is published
        # A message is acknowledged when its shard has landed, or is somebody else's concern.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        task_ignore_result=True,  # the job table is the result store
        task_serializer="json",
        accept_content=["json"],
        # How much a worker takes is our own credit of rows (see `express`), no count of messages.
        worker_prefetch_multiplier=0,
        worker_enable_prefetch_count_reduction=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # True strands messages
        worker_send_task_events=True,  # one task per shard: cheap
        task_send_sent_event=False,
        worker_enable_remote_control=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # else a worker exits when Redis is out of memory
        broker_pool_limit=10,
        broker_transport_options={
            "visibility_timeout": _DAY_S,  # recovery is by lease, not by Celery's redelivery
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "queue_order_strategy": "priority",
            "socket_timeout": socket_timeout_s,
            "socket_connect_timeout": min(5.0, socket_timeout_s),
            "socket_keepalive": True,
            "health_check_interval": 25,
            "max_connections": 20,
            # Kombu's own keys, apart for every namespace on a shared server.
            "unacked_key": f"{namespace}.unacked",
            "unacked_index_key": f"{namespace}.unacked_index",
            "unacked_mutex_key": f"{namespace}.unacked_mutex",
        },
        control_exchange=f"{namespace}.pidbox",
        event_exchange=f"{namespace}.celeryev",
        task_publish_retry_policy={  # whoever publishes would rather hear "no" at once
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
    )
    register_tasks(app)
    return app


def broker_url(settings: Settings) -> str:
    """Write the Redis URL of the settings as kombu wants it: Unix sockets have another scheme.

    Raises:
        RedisUnavailable: the settings name no Redis.
    """
    url = settings.redis_url
    if not url:
        raise RedisUnavailable(
            "no Redis is named: set PENSTOCK_REDIS_URL, or run `penstock up`, which brings its own"
        )
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"redis+socket://{login}{parts.path}?virtual_host={database}"


def _queue(name: str) -> Queue:
    # All three named: a queue without its own exchange and key would share the default's.
    return Queue(name, Exchange(name, type="direct"), routing_key=name)
