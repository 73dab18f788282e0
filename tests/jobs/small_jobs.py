"""Small jobs on a real disk and in a real table, and what is done to them while they live.

Knows how the functions of jobs/ are called, and nothing of what should come of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.jobs.ending import cancel, end
from penstock.jobs.job_dir import Final, JobDir
from penstock.jobs.job_table import Commit, JobTable
from penstock.jobs.landing import LandedRow, PartCounts, land
from penstock.jobs.manifest import finalize
from penstock.jobs.model import (
    JobSnapshot,
    JobSpec,
    JobState,
    RequestError,
    RowStatus,
    ShardRef,
    TaskSpec,
)
from penstock.jobs.reconciler import rebuild_all, reconcile
from penstock.jobs.retrying import retry
from penstock.jobs.sealed_input import SealedRow
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit


@dataclass(frozen=True, slots=True)
class SmallJobs:
    settings: Settings
    table: JobTable

    def make(self, num_rows: int = 10, shard_rows: int = 4, **fields: Any) -> JobSpec:
        """Submit a job for real."""
        rows = [{"id": f"r{i}", "text": f"text {i}"} for i in range(num_rows)]
        task = TaskSpec(model="fake", prompt="{{ row.text }}")
        request = SubmitRequest(task, id_column="id", shard_rows=shard_rows, **fields)
        return submit(self.settings, self.table, RowsSource(rows), request).spec

    def run(
        self, spec: JobSpec, shards: Iterable[int] | None = None, failing: Sequence[int] = ()
    ) -> list[Commit]:
        """Do a worker's work on the shards of a job, all that can be issued if none are named."""
        commits: list[Commit] = []
        for index in self.table.issue(spec.job_id, 1_000) if shards is None else shards:
            ref = ShardRef(spec.job_id, index)
            attempt = self.claim(spec, index)
            counts = self.land(spec, index, attempt, failing)
            commits.append(self.table.commit(ref, attempt, counts))
        return commits

    def claim(self, spec: JobSpec, shard: int) -> int:
        """Take a shard as a worker does; returns the attempt."""
        claim = self.table.claim(ShardRef(spec.job_id, shard), "w1", 60_000)
        assert claim.status == "granted"
        return claim.attempt

    def land(
        self, spec: JobSpec, shard: int, attempt: int, failing: Sequence[int] = ()
    ) -> PartCounts:
        """Link a shard's part, and tell the table nothing."""
        rows = self.answers(spec, shard, failing)
        return land(spec, shard, attempt, rows, job_dir=self.directory(spec))

    def answers(self, spec: JobSpec, shard: int, failing: Sequence[int] = ()) -> list[LandedRow]:
        """Make up what becomes of a shard's rows."""
        with self.directory(spec).open_input() as sealed:
            return [answered(row, row.row_index in failing) for row in sealed.shard(shard)]

    def complete(self, failing: Sequence[int] = (), **fields: Any) -> JobSpec:
        """Make a job and bring it to its end."""
        spec = self.make(**fields)
        self.run(spec, failing=failing)
        assert self.finalize(spec) is not None
        return spec

    def finalize(self, spec: JobSpec) -> JobState | None:
        return finalize(self.settings, self.table, spec.job_id)

    def end(self, spec: JobSpec, state: JobState, error: str | None = None) -> Final:
        return end(self.settings, self.table, spec.job_id, state, error)

    def cancel(self, spec: JobSpec) -> JobSnapshot:
        return cancel(self.settings, self.table, spec.job_id)

    def retry(self, spec: JobSpec, **options: Any) -> JobSpec:
        return retry(self.settings, self.table, spec.job_id, **options)

    def rerun(self, spec: JobSpec, failing: Sequence[int] = ()) -> JobSpec:
        """Make a retry of a job and bring it to its end."""
        made = self.retry(spec)
        self.run(made, failing=failing)
        assert self.finalize(made) is not None
        return made

    def reconcile(self, spec: JobSpec) -> bool:
        return reconcile(self.settings, self.table, spec.job_id)

    def rebuild_all(self) -> list[str]:
        return rebuild_all(self.settings, self.table)

    def wipe(self) -> None:
        """Have Redis lose all it knows."""
        self.table.redis.flushall()

    def snapshot(self, spec: JobSpec) -> JobSnapshot:
        """Tell how a job is that the table must know."""
        snapshot = self.table.snapshot(spec.job_id)
        assert snapshot is not None
        return snapshot

    def directory(self, spec: JobSpec) -> JobDir:
        return JobDir(self.settings.jobs_dir, spec.job_id)


def answered(row: SealedRow, fails: bool = False) -> LandedRow:
    """What an engine might make of a row."""
    error = RequestError("engine_error", "it broke") if fails else None
    return LandedRow(
        row_index=row.row_index,
        custom_id=row.custom_id,
        status=RowStatus.FAILED if fails else RowStatus.SUCCEEDED,
        output=None if fails else f"answer to {row.row.get('text')}",
        finish_reason="error" if fails else "stop",
        prompt_tokens=5,
        completion_tokens=0 if fails else 3,
        cached_tokens=1,
        error=error,
        worker="w1",
        started_at_ms=1_700_000_001_000 + row.row_index,
        finished_at_ms=1_700_000_002_000,
        columns=row.row,
    )


def nothing_is_left(settings: Settings) -> bool:
    """No job directory, no results directory, however it failed."""
    places = (settings.jobs_dir, settings.results_dir)
    return all(not place.exists() or not list(place.iterdir()) for place in places)
