"""One look at all that goes on: jobs, runs of workflows, workers. Does no IO (see `talk`)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from ..jobs.model import JobState
from .chat_calls import list_workers
from .client_errors import Forbidden
from .job_calls import list_jobs
from .records import JobRecord
from .retry_policy import RetryPolicy
from .run_calls import list_runs
from .talk import Send, Talk, ask, read_list
from .workflow_records import RunRecord

_MOST_JOBS = 100  # of each kind: the server gives no more on a page
_MOST_RUNS = 20
_NUM_ENDED = 10
_WAITING = (JobState.PAUSED, JobState.LANDING, JobState.VALIDATING, JobState.QUEUED)
_RANK = {JobState.RUNNING: 0, JobState.LANDING: 1, JobState.PAUSED: 2}
_LAST_RANK = 4


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as it last spoke of itself."""

    name: str
    model: str = ""
    running_rows: int = 0
    waiting_rows: int = 0
    kv_used_fraction: float = 0.0
    tokens_per_s: float = 0.0
    revision: str = ""
    not_ready: str | None = None
    is_draining: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a worker object; what it does not know of itself yet is null there."""
        known = cls.__dataclass_fields__.keys() - {"raw"}
        told = {name: data[name] for name in known if data.get(name) is not None}
        return cls(**told, raw=data)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there was to see at one moment; the busiest come first.

    `open_jobs` counts the jobs that have not ended by state, and `waiting_rows` their rows that no
    worker has begun, of all tenants: None where only admins are told. `has_more_jobs` says that
    there may be open ones that are older than those that are here.
    """

    at: datetime
    jobs: tuple[JobRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()
    open_jobs: Mapping[str, int] | None = None
    waiting_rows: int | None = None
    has_more_jobs: bool = False

    @property
    def tokens_per_s(self) -> float:
        """Give the rate of all workers together."""
        return sum(worker.tokens_per_s for worker in self.workers)

    @property
    def running_rows(self) -> int:
        """Count the rows in the engines."""
        return sum(worker.running_rows for worker in self.workers)

    def rates(self) -> dict[str, float]:
        """Give tokens per second of each job and worker, by id or name."""
        jobs = {job.id: job.tokens_per_s or 0.0 for job in self.jobs if not job.status.is_final}
        return jobs | {worker.name: worker.tokens_per_s for worker in self.workers}

    def to_json(self) -> dict[str, Any]:
        """Give it as one object; jobs, runs and workers are as the server tells them."""
        return {
            "object": "top",
            "at": self.at.timestamp(),
            "tokens_per_s": round(self.tokens_per_s, 3),
            "running_rows": self.running_rows,
            "waiting_rows": self.waiting_rows,
            "open_jobs": self.open_jobs,
            "workers": [worker.raw for worker in self.workers],
            "runs": [run.raw for run in self.runs],
            "jobs": [job.raw for job in self.jobs],
        }


def look(retry: RetryPolicy) -> Talk[Snapshot]:
    """Look at everything once, in a few small requests, however many jobs there are."""
    workers = yield from list_workers(retry)
    running = yield from list_jobs(_MOST_JOBS, None, retry, status=[JobState.RUNNING])
    waiting = yield from list_jobs(_MOST_JOBS, None, retry, status=_WAITING)
    latest = yield from list_jobs(_NUM_ENDED, None, retry)
    runs = yield from list_runs(_MOST_RUNS, None, retry)
    queues = yield from _queues(retry)
    jobs = {job.id: job for job in (*latest, *waiting, *running)}  # the last look at each counts
    return Snapshot(
        at=datetime.now(UTC),
        jobs=tuple(sorted(jobs.values(), key=_how_idle)),
        runs=tuple(sorted(runs, key=lambda run: run.status.is_final)),
        workers=tuple(
            sorted(map(WorkerRecord.from_json, workers), key=lambda each: -each.tokens_per_s)
        ),
        open_jobs=None if queues is None else _open_jobs(queues),
        waiting_rows=None if queues is None else sum(each["waiting_rows"] for each in queues),
        has_more_jobs=max(len(running), len(waiting)) == _MOST_JOBS,
    )


def _queues(retry: RetryPolicy) -> Talk[list[dict[str, Any]] | None]:
    """Fetch what waits; None where the key is not an admin's."""
    try:
        return (yield from ask(Send("GET", "/v1/queues"), retry, read_list))
    except Forbidden:
        return None


def _open_jobs(queues: list[dict[str, Any]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for queue in queues:
        counts.update(queue["jobs"])
    return dict(counts)


def _how_idle(job: JobRecord) -> tuple[int, float, float]:
    """Order jobs: those at work by their rate, then those that wait, then the latest that ended."""
    rank = _LAST_RANK if job.status.is_final else _RANK.get(job.status, _LAST_RANK - 1)
    latest_first = -job.created_at.timestamp() if job.created_at else 0.0
    return rank, -(job.tokens_per_s or 0.0) if rank == 0 else 0.0, latest_first
