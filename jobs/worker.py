"""One worker process: Celery's worker program around one engine. Runs until it is told to stop.

SIGTERM or Ctrl-C: take nothing new, let rows finish for `grace_s`, hand back what is left, exit.
A second one: hand back at once. If Redis is frozen, so that nothing can be handed back, the process
ends all the same, and the leases run out.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import warnings
from typing import Any

import redis
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import EX_FAILURE, EX_OK
from celery.worker import state

from .app import Assignment, PenstockApp, create_app
from .express import add_lanes
from .logs import configure_logging
from .pool import EnginePool
from .redis_client import connect
from .redis_url import without_password
from .settings import InvalidSetting, Settings
from .steady_consumer import SteadyConsumer
from .workflow.tools import read_operations

_REDIS_PAUSE_S = 2.0
STOP_PATIENCE_S = 10.0  # beyond the rows' grace: for what is to be handed back

logger = logging.getLogger(__name__)


class WorkerProgram(CeleryWorker):
    """Celery's worker program, with signals that mean what an operator expects."""

    def install_platform_tweaks(self, worker: Any) -> None:
        """Take the two signals that stop the worker."""
        super().install_platform_tweaks(worker)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_on_signal)

    def _stop_on_signal(self, signum: int, frame: object) -> None:
        if state.should_stop is None:
            state.should_stop = EX_OK  # the main loop looks at it
            self._end_in_time()
        else:
            state.should_terminate = EX_OK

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop, also for an error that Celery cannot recover from; whoever hangs then is ended."""
        self._end_in_time()
        super().stop(in_sighandler, exitcode)

    def _end_in_time(self) -> None:
        app: Any = self.app
        limit_s = app.settings.grace_s + STOP_PATIENCE_S
        deadline = threading.Timer(limit_s, os._exit, (EX_FAILURE,))
        deadline.daemon = True
        deadline.start()


def run_worker(
    settings: Settings,
    model: str,
    name: str | None = None,
    *,
    health: tuple[str, int] | None = None,
) -> int:
    """Serve a model until a signal; returns the process' exit status. Call from the main thread.

    `name` is made unique by the host's name and the process' number. `health` is the host and port
    on which health checks are answered, if any are (see `worker_health`).

    Raises:
        RedisUnavailable: the settings name no Redis.
        InvalidSetting: an operation of workflows cannot be imported, or `health` is taken.
    """
    read_operations(settings.workflow_ops)
    configure_logging("worker")
    worker = worker_name(name)
    app = create_app(settings, assignment=Assignment(model, worker))
    add_lanes(app, model)
    _wait_for_redis(settings)
    program = _celery_worker(app, model, worker)
    with _answering(health, program):
        program.start()
    for number in (signal.SIGTERM, signal.SIGINT):  # it ends: one more must not spoil its status
        signal.signal(number, signal.SIG_IGN)
    return program.exitcode or 0


def _answering(
    health: tuple[str, int] | None, program: WorkerProgram
) -> contextlib.AbstractContextManager[object]:
    if health is None:
        return contextlib.nullcontext()
    from .worker_health import WorkerHealth

    pool: Any = program.pool
    try:
        return WorkerHealth(pool.station, *health)
    except OSError as error:
        host, port = health
        told = f"health checks cannot be answered at {host}:{port}: {error.strerror or error}"
        raise InvalidSetting(told) from error


def worker_name(name: str | None = None) -> str:
    """Make a name that no other worker has."""
    return f"{name or 'worker'}-{os.getpid()}@{socket.gethostname()}"


def _celery_worker(app: PenstockApp, model: str, worker: str) -> WorkerProgram:
    # Celery warns of root because of pickle; only JSON is taken here.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    program = WorkerProgram(
        app=app,
        hostname=worker,
        pool=EnginePool,
        consumer_cls=SteadyConsumer,
        concurrency=1,
        queues=[app.lane("bulk", model).name],
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    # After Celery's own filters: this one recommends a setting that strands messages on Redis.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    return program


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
                    without_password(settings.redis_url or ""),
                    error,
                    _REDIS_PAUSE_S,
                )
                time.sleep(_REDIS_PAUSE_S)
