"""What is told of a run while it is advanced: a report in Redis, and events. News, no truth."""

import time
from collections.abc import Callable

import msgspec

from ...events import DONE, STATUS, JobEvents
from ...job_table import JobTable
from ...model import JobState
from .report import RunReport, StepProgress

STEP_PROGRESS = "step.progress"
KEPT_S = 24 * 3600
_EVERY_S = 0.5
_SAID_AGAIN_S = 30.0  # also what has not changed: Redis may have lost it


class RunNews:
    """Tells how one run stands, and no more often than people can follow."""

    def __init__(
        self,
        table: JobTable,
        events: JobEvents,
        run_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = table.redis
        self._key = table.keys.run(run_id)
        self._events = events
        self._run_id = run_id
        self._clock = clock
        self._told: RunReport | None = None
        self._looked_at_s = float("-inf")
        self._said_at_s = float("-inf")

    def tell(self, report: RunReport, *, at_once: bool = False) -> None:
        """Let everybody read how it stands, and its followers see which steps have moved."""
        now_s = self._clock()
        if not at_once and now_s - self._looked_at_s < _EVERY_S:
            return
        self._looked_at_s = now_s
        before = self._told
        if report == before and now_s - self._said_at_s < _SAID_AGAIN_S:
            return
        self._redis.set(self._key, msgspec.json.encode(report), ex=KEPT_S)
        self._told, self._said_at_s = report, now_s
        known = {step.id: step for step in before.steps} if before is not None else {}
        for step in report.steps:
            if step != known.get(step.id, _UNTOUCHED):
                data = msgspec.to_builtins(step)
                self._events.publish(self._run_id, STEP_PROGRESS, data)
        if before is not None and before.state is not report.state:
            self.status(report.state, report.trouble)

    def status(self, state: JobState, reason: str | None = None) -> None:
        """Tell the followers that the run is in another state."""
        data = {"status": state, "status_reason": reason}
        self._events.publish(self._run_id, STATUS, data)

    def done(self, state: JobState) -> None:
        """Tell the followers that nothing more will come."""
        self._events.publish(self._run_id, DONE, {"status": state})


_UNTOUCHED = StepProgress("", "", "waiting")


def read_news(table: JobTable, run_id: str) -> RunReport | None:
    """Read what was last told of a run; None if nobody has advanced it lately."""
    said = table.redis.get(table.keys.run(run_id))
    if said is None:
        return None
    try:
        return msgspec.json.decode(said, type=RunReport)  # pyright: ignore[reportArgumentType]
    except msgspec.MsgspecError:  # of another version
        return None
