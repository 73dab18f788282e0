"""What is told of a run while it is advanced: a report in Redis, and events. News, no truth."""

import time

import msgspec

from ..events import DONE, STATUS, JobEvents
from ..job_table import JobTable
from ..model import JobState
from .report import RunReport, StepProgress

STEP_PROGRESS = "step.progress"
KEPT_S = 24 * 3600
_EVERY_S = 0.5


class RunNews:
    """Tells how one run stands, and no more often than people can follow."""

    def __init__(self, table: JobTable, events: JobEvents, run_id: str) -> None:
        self._redis = table.redis
        self._key = table.keys.run(run_id)
        self._events = events
        self._run_id = run_id
        self._told: RunReport | None = None
        self._told_at_s = float("-inf")

    def tell(self, report: RunReport, *, at_once: bool = False) -> None:
        """Let everybody read how it stands, and its followers see which steps have moved."""
        now_s = time.monotonic()
        if not at_once and now_s - self._told_at_s < _EVERY_S:
            return
        is_stale = now_s - self._told_at_s > KEPT_S / 2
        before, self._told, self._told_at_s = self._told, report, now_s
        if report == before and not is_stale:
            return
        self._redis.set(self._key, msgspec.json.encode(report), ex=KEPT_S)
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
