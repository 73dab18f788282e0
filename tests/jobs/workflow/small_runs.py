"""Small runs on a real disk and in a real table, advanced step by step in the test's own thread.

What keeper, advancer, workshop and worker do for a run, one after another and always in the same
order. Knows how the functions of jobs/ are called, and nothing of what should come of them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import msgspec

from penstock.jobs.events import JobEvents
from penstock.jobs.found_part import found_counts
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobState, RequestError, RowStatus, ShardRef
from penstock.jobs.reconciler import reconcile, unlisted
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.sealed_input import SealedRow
from penstock.jobs.settings import Settings
from penstock.jobs.sources import RowsSource
from penstock.jobs.workflow.checks import check
from penstock.jobs.workflow.model_revisions import ModelRevisions
from penstock.jobs.workflow.orders import orders
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs import completion, run_at_work, run_orders, telling
from penstock.jobs.workflow.runs.run_at_work import RunAtWork
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_results import RunResults
from penstock.jobs.workflow.runs.run_submission import RunRequest, submit_run
from penstock.jobs.workflow.runs.runs import RunSnapshot, read_run, step_rows
from penstock.jobs.workflow.spec import Workflow
from penstock.jobs.workflow.workshop.workbench import Workbench

LEASE_MS = 1  # whoever died with a shard has lost it by the time that anybody looks
MAX_ROUNDS = 400

Model = Callable[[dict[str, Any]], str]


class Refused(Exception):
    """What a model raises that fails for a request."""


@contextmanager
def in_small_shards(run_rows: int = 3, order_rows: int = 4) -> Iterator[None]:
    """Cut what a test runs into several shards, and have nothing wait for the clock."""
    with ExitStack() as patches:
        for module, name, value in (
            (check, "MAX_SHARD_ROWS", run_rows),
            (orders, "SMALL_SHARD_ROWS", order_rows),
            (run_orders, "ORDER_WAIT_S", -1.0),
            (run_at_work, "RETRY_S", 0.0),
            (telling, "_EVERY_S", 0.0),
            (completion, "READING_S", 60.0),
            (completion, "RETRY_S", 0.0),
        ):
            patches.enter_context(mock.patch.object(module, name, value))
        yield


@dataclass(frozen=True, slots=True)
class SmallRuns:
    """One run is worked on at a time. `model` says what is answered to the body of a request."""

    settings: Settings
    table: JobTable
    model: Model

    def submit(
        self, workflow: dict[str, Any], inputs: dict[str, list[dict[str, Any]]], **fields: Any
    ) -> RunSnapshot:
        read = msgspec.convert(workflow, Workflow)
        sources = {name: RowsSource(rows) for name, rows in inputs.items()}
        return submit_run(self.settings, self.table, RunRequest(read, sources, **fields))

    def opened(self, run_id: str) -> RunAtWork:
        """Take a run up as an advancer does that has never seen it."""
        directory = RunDir(self.settings.runs_dir, run_id)
        events = JobEvents(self.table.redis, self.table.keys)
        return RunAtWork(self.settings, self.table, events, directory, ModelRevisions(list))

    def advance(self, run: RunAtWork, bench: Workbench) -> bool:
        """Give a run one turn; returns whether nothing is left to do."""
        if run.look_after():
            return True
        work = run.next_work()
        if work is not None:
            run.take(work, bench.do(work))
        return False

    def lead(self, run_id: str, rounds: int = MAX_ROUNDS) -> bool:
        """Go on with a run for so many turns; returns whether it is over."""
        run, bench = self.opened(run_id), Workbench(self.settings.data_dir)
        for _ in range(rounds):
            self.keep()
            self.serve(run_id)
            if self.advance(run, bench):
                return True
        return False

    def finish(self, run_id: str) -> RunSnapshot:
        """Bring a run to its end, by whoever comes next."""
        if run_id in RunDir.unsettled(self.settings.runs_dir):
            assert self.lead(run_id), f"it hangs: {self.read(run_id)}"
        return self.read(run_id)

    def keep(self) -> None:
        """Do the keeper's chores."""
        for job_id in unlisted(self.settings, self.table):
            reconcile(self.settings, self.table, job_id)
        self.table.reap(100)

    def serve(self, run_id: str) -> None:
        """Do a worker's work on all that a run has asked, and complete it."""
        for order in orders_of(self.settings.jobs_dir, run_id):
            job = self.table.snapshot(order.job_id)
            if job is None or job.state.is_final or job.state is JobState.PAUSED:
                continue
            self.table.reissue_stale(order.job_id, -1, 100)
            self._land(order.job_id)
            finalize(self.settings, self.table, order.job_id)

    def _land(self, job_id: str) -> None:
        directory = JobDir(self.settings.jobs_dir, job_id)
        spec = directory.read_spec()
        with directory.open_input() as sealed:
            for index in self.table.issue(job_id, 100):
                claim = self.table.claim(ShardRef(job_id, index), "w1", LEASE_MS)
                assert claim.status == "granted"
                counts = found_counts(ResultsDir.of(spec), index)
                if counts is None:
                    rows = [self._answered(row) for row in sealed.shard(index)]
                    counts = land(spec, index, claim.attempt, rows)
                self.table.commit(ShardRef(job_id, index), claim.attempt, counts)

    def _answered(self, row: SealedRow) -> LandedRow:
        text, error = None, None
        try:
            text = self.model(row.row["body"])
        except Refused as refusal:
            error = RequestError("engine_error", str(refusal))
        return LandedRow(
            row_index=row.row_index,
            custom_id=row.custom_id,
            status=RowStatus.SUCCEEDED if error is None else RowStatus.FAILED,
            output=text,
            error=error,
            finish_reason="stop" if error is None else None,
            prompt_tokens=5,
            completion_tokens=3,
            worker="w1",
            started_at_ms=1_700_000_001_000,
            finished_at_ms=1_700_000_002_000,
            columns=row.row,
        )

    def read(self, run_id: str) -> RunSnapshot:
        return read_run(self.settings, self.table, run_id)

    def output(self, run_id: str) -> list[dict[str, Any]]:
        """Read all that has landed; what is told of an effort differs between lives."""
        return list(step_rows(self.settings, run_id, limit=1_000_000))

    def asked(self, run_id: str) -> list[str]:
        """Name all that was ever asked, in no order, with the step that did."""
        found: list[str] = []
        for order in orders_of(self.settings.jobs_dir, run_id):
            with JobDir(self.settings.jobs_dir, order.job_id).open_input() as sealed:
                for index in range(order.num_shards):
                    found += [f"{order.step_id} {row.custom_id}" for row in sealed.shard(index)]
        return sorted(found)

    def results(self, run_id: str) -> RunResults:
        return RunResults.of(RunDir(self.settings.runs_dir, run_id).read())

    def elsewhere(self, **fields: Any) -> "SmallRuns":
        """The same with other settings."""
        return replace(self, settings=replace(self.settings, **fields))
