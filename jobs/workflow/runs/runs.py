"""Runs of workflows, as everybody else sees them: looked at, steered, read. See `run_submission`.

All of it blocks: call it in a thread.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa
import redis

from ...ending import cancel
from ...errors import CorruptJob, JobBusy, UnknownJob
from ...events import DONE, STATUS, JobEvents
from ...job_table import JobTable
from ...model import JobState
from ...part_file import read_part
from ...results_dir import ResultsDir
from ...settings import Settings
from ..replanning import plan_of
from .error_rates import tallies
from .part_ends import PartEnds, landed_part
from .report import RunReport, StepProgress, progress_of
from .run_control import read_control
from .run_dir import RunDir, RunFinal, RunPause
from .run_results import RunResults
from .run_spec import RunSpec
from .run_state import RunState
from .telling import read_news

MAX_REJECTED_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RejectedInput:
    """A line of an input that could not become a row. `line` counts from 1."""

    input: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """How a run stands."""

    run_id: str
    workflow_name: str
    name: str | None
    tenant: str
    state: JobState
    created_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    error: str | None
    status_reason: str | None
    num_rows: int
    num_rejected: int
    output_rows: int
    out: str
    priority: int
    metadata: Mapping[str, str]
    steps: tuple[StepProgress, ...]
    is_preview: bool = False
    rejected: tuple[RejectedInput, ...] = ()  # the first lines that could not become rows
    retry_of: str | None = None


def read_run(settings: Settings, table: JobTable, run_id: str) -> RunSnapshot:
    """Tell how a run stands.

    Raises:
        UnknownJob: there is no such run.
        CorruptJob: it is damaged.
    """
    directory = RunDir(settings.runs_dir, run_id)
    return _snapshot(table, directory, directory.read())


def _snapshot(table: JobTable, directory: RunDir, spec: RunSpec) -> RunSnapshot:
    run_id = spec.run_id
    final = directory.read_final()
    control = read_control(directory, spec)
    report = _report_of(final) if final is not None else None
    if report is None:
        with suppress(redis.RedisError):  # it is away: the disk tells less, and enough
            report = read_news(table, run_id)
    if report is None:
        report = RunReport(JobState.QUEUED, _untouched(spec))
    state, reason = report.state, report.trouble
    if final is not None:
        state, reason = final.state, None
    elif (pause := directory.read_pause()).is_on:
        state, reason = JobState.PAUSED, pause.reason
    elif state is JobState.PAUSED:  # told before it was resumed
        state = JobState.QUEUED if report.started_at_ms is None else JobState.RUNNING
        reason = None
    return RunSnapshot(
        run_id=run_id,
        workflow_name=spec.workflow.name,
        name=control.name,
        tenant=spec.tenant,
        state=state,
        created_at_ms=spec.created_at_ms,
        started_at_ms=directory.read_started() or report.started_at_ms,
        finished_at_ms=final.at_ms if final is not None else None,
        error=final.error if final is not None else None,
        status_reason=reason,
        num_rows=spec.num_rows,
        num_rejected=sum(each.num_rejected for each in spec.inputs.values()),
        output_rows=report.output_rows,
        out=f"{spec.out_url}/{run_id}" if spec.out_url else str(RunResults.of(spec).path),
        priority=control.priority,
        metadata=control.metadata,
        steps=report.steps,
        is_preview=spec.is_preview,
        rejected=_first_rejected(directory, spec),
        retry_of=spec.retry_of,
    )


def list_runs(
    settings: Settings,
    table: JobTable,
    *,
    tenant: str | None = None,
    states: Collection[JobState] | None = None,
    after: str | None = None,
    limit: int = 20,
) -> list[RunSnapshot]:
    """Read runs, all or a tenant's, newest first, beginning behind the run `after`.

    Those in other states are passed over.
    """
    found: list[RunSnapshot] = []
    for run_id in RunDir.all(settings.runs_dir, after):
        with suppress(UnknownJob, CorruptJob):  # removed meanwhile, or not to be read
            directory = RunDir(settings.runs_dir, run_id)
            spec = directory.read()
            if tenant not in (None, spec.tenant):
                continue
            run = _snapshot(table, directory, spec)
            if states is None or run.state in states:
                found.append(run)
        if len(found) == limit:
            break
    return found


def pause_run(settings: Settings, table: JobTable, run_id: str) -> RunSnapshot:
    """Begin nothing more of a run. What is held by workers goes on to its end, and lands.

    The disk alone knows of it, so it can be done while Redis is away.

    Raises:
        UnknownJob: there is no such run.
        StorageFull: it could not be recorded, so the run goes on.
    """
    return _steer(settings, table, run_id, is_on=True)


def resume_run(settings: Settings, table: JobTable, run_id: str) -> RunSnapshot:
    """Let a paused run go on. The rows that failed so far are not held against it any more.

    Raises:
        UnknownJob: there is no such run.
        StorageFull: it could not be recorded, so the run still pauses.
    """
    return _steer(settings, table, run_id, is_on=False)


def cancel_run(settings: Settings, table: JobTable, run_id: str) -> RunSnapshot:
    """Cancel a run: what has landed stays, nothing more is begun. An end stands.

    Raises:
        UnknownJob: there is no such run.
        StorageFull: its end could not be recorded, so it goes on.
    """
    directory = RunDir(settings.runs_dir, run_id)
    directory.read()
    if directory.durable_final() is None:
        report = read_news(table, run_id)
        directory.write_final(
            RunFinal(JobState.CANCELLED, time.time_ns() // 1_000_000, None, report)
        )
        for path in sorted(settings.jobs_dir.glob(f"{run_id}-*")):
            with suppress(UnknownJob, CorruptJob, JobBusy):  # the advancer comes after us
                cancel(settings, table, path.name)
        events = JobEvents(table.redis, table.keys)
        events.publish(run_id, STATUS, {"status": JobState.CANCELLED})
        events.publish(run_id, DONE, {"status": JobState.CANCELLED})
    return read_run(settings, table, run_id)


def step_rows(
    settings: Settings,
    run_id: str,
    step_id: str | None = None,
    *,
    after: int = 0,
    limit: int,
    ends: PartEnds | None = None,
) -> Iterator[dict[str, Any]]:
    """Read rows of a step, or of the output, in the order of its shards, while it runs too.

    They stop before the first shard that has not landed, until the run has ended: `after` counts
    rows that were read before, so that none is skipped. Of a run that has ended they are all that
    have landed. Whoever reads page by page passes the same `ends` each time.

    Raises:
        UnknownJob: there is no such run, or it has no such step.
        CorruptPart: a part is damaged.
    """
    parts = _tables_of(settings, run_id, step_id, after, ends or PartEnds())
    yield from islice((row for part in parts for row in part.to_pylist()), limit)


def step_table(
    settings: Settings,
    run_id: str,
    step_id: str | None = None,
    *,
    after: int = 0,
    limit: int,
    ends: PartEnds | None = None,
) -> pa.Table:
    """Read rows as `step_rows` does, with the types that they have in Parquet.

    Where none has landed yet, nobody knows their columns: then it has none.

    Raises:
        UnknownJob: there is no such run, or it has no such step.
        CorruptPart: a part is damaged.
    """
    found: list[pa.Table] = []
    left = limit
    for part in _tables_of(settings, run_id, step_id, after, ends or PartEnds()):
        found.append(part.slice(0, left))
        left -= found[-1].num_rows
        if not left:
            break
    return pa.concat_tables(found, promote_options="default") if found else pa.table({})


def _tables_of(
    settings: Settings, run_id: str, step_id: str | None, after: int, ends: PartEnds
) -> Iterator[pa.Table]:
    directory = RunDir(settings.runs_dir, run_id)
    place = _place_of(directory.read(), step_id)
    has_ended = directory.read_final() is not None
    index, num_read = ends.find(place, after, passes_gaps=has_ended)
    while (part := landed_part(place, index, passes_gaps=has_ended)) is not None:
        yield read_part(place.part(part)).slice(num_read)
        index, num_read = part + 1, 0


def _place_of(spec: RunSpec, step_id: str | None) -> ResultsDir:
    results = RunResults.of(spec)
    if step_id is None:
        return results.output
    if step_id not in {step.id for step in plan_of(spec).steps}:
        raise UnknownJob(f"{spec.run_id}/{step_id}")
    return results.step(step_id)


def _steer(settings: Settings, table: JobTable, run_id: str, *, is_on: bool) -> RunSnapshot:
    """Let a run pause or go on; the advancer passes it on to what models are asked just now."""
    directory = RunDir(settings.runs_dir, run_id)
    directory.read()
    before = directory.read_pause()
    if directory.read_final() is None and before.is_on != is_on:
        pause = RunPause(is_on=is_on)
        if not is_on and (report := read_news(table, run_id)) is not None:
            pause = replace(pause, judged_from=tallies(report.steps))
        directory.write_pause(pause)
    return read_run(settings, table, run_id)


def _report_of(final: RunFinal) -> RunReport | None:
    with suppress(msgspec.ValidationError):
        return msgspec.convert(final.report, RunReport | None)
    return None


def _first_rejected(directory: RunDir, spec: RunSpec) -> tuple[RejectedInput, ...]:
    lines = (
        RejectedInput(name, bad.line, bad.message)
        for name, dataset in spec.inputs.items()
        if dataset.num_rejected
        for bad in directory.read_rejected(name)
    )
    return tuple(islice(lines, MAX_REJECTED_SHOWN))


def _untouched(spec: RunSpec) -> tuple[StepProgress, ...]:
    """Tell of the steps of a run that nobody has advanced yet."""
    run = RunState(spec, plan_of(spec))
    return tuple(progress_of(each) for each in run.steps.values() if not each.step.is_internal)
