"""Everything a worker has beside Celery: the engine process and who serves it, wired together.

    engine process --frames--> custody    shards     -> job table, events
                           |-> replies    requests   -> Redis, to the API that asked
                           `-> reporter   figures    -> heartbeat, progress events
    lane                       whether suspects are tried here
    keeper                     chores of the whole queue, by whoever leads

Knows which part hears of what, and the order in which they start and stop; no Celery pool.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from .custody import Custody
from .engine_process import EngineProcess, Loss
from .events import JobEvents
from .frames import (
    REQUEST_VERSION,
    Delta,
    Deltas,
    Generate,
    InteractiveRequest,
    Progress,
    Ready,
    ShardFailed,
    ShardLanded,
    ToWorker,
    Unusable,
)
from .job_table import JobTable
from .keeper import Keeper
from .messages import send_finalize
from .quarantine_lane import QuarantineLane
from .redis_client import connect
from .replies import ReplyPublisher
from .reporter import Reporter
from .workers import WorkerRegister, WorkerTotals

if TYPE_CHECKING:
    from .app import PenstockApp


class Station:
    """One worker's engine and its attendants. `start` and `stop` come in pairs."""

    def __init__(
        self,
        app: "PenstockApp",
        model: str,
        worker: str,
        *,
        on_request_over: Callable[[Delta], None],
        on_unusable: Callable[[Unusable], None],
    ) -> None:
        self.model = model
        self._redis = connect(app.settings)
        self._is_stopped = False
        events = JobEvents(self._redis, app.keys)
        self.engine = EngineProcess(
            app.settings,
            model,
            worker,
            on_frame=self._take,
            on_lost=self._engine_lost,
            on_unusable=on_unusable,
        )
        self._lane = QuarantineLane(app.settings.data_dir, self.engine.send)
        self.custody = Custody(
            app.settings,
            JobTable(self._redis, app.keys),
            events,
            worker,
            send=self.engine.send,
            on_job_landed=lambda job_id: send_finalize(app, job_id),
            on_given_up=self._lane.leave,
        )
        self.replies = ReplyPublisher(self._redis, app.keys, worker, on_over=on_request_over)
        self._keeper = Keeper(app.settings, owner=worker)
        self.reporter = Reporter(
            WorkerRegister(self._redis, app.keys),
            events,
            self.engine,
            model,
            worker,
            count=self._count,
        )

    def start(self) -> None:
        """Start all threads and the engine process. Redis need not be there."""
        self.custody.start()
        self.replies.start()
        self.engine.start()
        self.reporter.start()
        self._keeper.start()

    def stop(self) -> None:
        """Stop: shards go back, requests fail, the engine process dies. Twice does no harm."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self.engine.stop()
        self.custody.close()
        self._lane.leave()
        self.replies.fail_all("the worker stops")
        self.replies.stop()
        self._keeper.stop()
        self.reporter.stop()
        self._redis.close()

    def begin_request(self, request_id: str, message: dict[str, Any]) -> None:
        """Run the interactive request of a message; `on_request_over` tells when it has ended.

        Raises:
            KeyError: the message does not say who waits for it.
        """
        self.replies.open(request_id, str(message["reply_to"]))
        try:
            request = msgspec.convert(message["request"], InteractiveRequest)
        except (KeyError, msgspec.ValidationError) as error:  # of another version, so others may
            self.replies.fail(request_id, f"this worker does not understand the request: {error}")
            return
        if request.version > REQUEST_VERSION:
            spoken = f"requests of version {REQUEST_VERSION}, not {request.version}"
            self.replies.fail(request_id, f"this worker understands {spoken}")
            return
        try:
            is_sent = self.engine.send(Generate(request))
        except Exception as error:  # an integer of 65 bits, or too much; its caller must hear of it
            self.replies.refuse(request_id, f"the request cannot be passed to the engine: {error}")
            return
        if not is_sent:
            self.replies.fail(request_id, "the engine is restarting")

    def _count(self) -> WorkerTotals:
        return WorkerTotals(
            shard_retries=self.custody.num_retries,
            lease_expiries=self._keeper.num_reaped,
            engine_losses=self.engine.num_losses,
            rows=dict(self.custody.num_rows),
        )

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case Deltas():
                self.replies.send(frame.deltas)
            case ShardLanded():
                self.custody.landed(frame)
            case ShardFailed():
                self.custody.failed(frame)
            case Ready():
                self._lane.engine_ready()
                self.custody.engine_ready()
            case Progress():
                self._lane.take(frame)

    def _engine_lost(self, loss: Loss) -> None:
        self._lane.engine_lost()
        self.custody.engine_lost(loss, is_proof=not self.replies.is_busy)
        self.replies.fail_all(f"the engine was lost: {loss}")
