"""One worker process: Celery's worker program around one engine. Runs until it is told to stop.

SIGTERM or Ctrl-C: take nothing new, let rows finish for `grace_s`, hand back what is left, exit.
A second Ctrl-C: hand back at once.
"""

import logging
import os
import socket
import time
import warnings
from typing import Any

import redis
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning

from .app import Assignment, PenstockApp, create_app
from .express import add_lanes
from .logs import configure_logging
from .pool import EnginePool
from .redis_client import connect
from .settings import Settings

_REDIS_PAUSE_S = 2.0

logger = logging.getLogger(__name__)


def run_worker(settings: Settings, model: str, name: str | None = None) -> int:
    """Serve a model until a signal; returns the process' exit status. Call from the main thread.

    `name` is made unique by the host's name and the process' number.

    Raises:
        RedisUnavailable: the settings name no Redis.
    """
    configure_logging("worker")
    worker = worker_name(name)
    app = create_app(settings, assignment=Assignment(model, worker))
    add_lanes(app, model)
    _wait_for_redis(settings)
    program = _celery_worker(app, model, worker)
    program.start()
    return program.exitcode or 0


def worker_name(name: str | None = None) -> str:
    """Make a name that no other worker has."""
    return f"{name or 'worker'}-{os.getpid()}@{socket.gethostname()}"


def _celery_worker(app: PenstockApp, model: str, worker: str) -> Any:
    # Celery warns of root because of pickle; only JSON is taken here.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    # It recommends a setting that strands messages on Redis (see `app`).
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    return CeleryWorker(
        app=app,
        hostname=worker,
        pool=EnginePool,
        concurrency=1,
        queues=[app.lane("bulk", model).name],
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )


def _wait_for_redis(settings: Settings) -> None:
    with connect(settings) as client:
        while True:
            try:
                client.ping()
                return
            except redis.RedisError as error:
                logger.warning(
                    "Redis at %s does not answer (%s); trying again in %.0f s. Is it running, and "
                    "is PENSTOCK_REDIS_URL right?",
                    _without_password(settings.redis_url or ""),
                    error,
                    _REDIS_PAUSE_S,
                )
                time.sleep(_REDIS_PAUSE_S)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
