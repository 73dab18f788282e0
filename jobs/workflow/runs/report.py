"""How a run stands, as people are told: its steps, their rows and their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ...model import JobState
from ..workshop.shard_report import ToldFault
from .run_state import RunState, StepState


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far a step is. `num_shards` is None while nobody can know."""

    id: str
    type: str
    state: Literal["waiting", "running", "completed", "failed"]
    shards_done: int = 0
    num_shards: int | None = None
    rows_in: int = 0
    rows_out: int = 0
    dropped: int = 0
    failed: int = 0
    lost: int = 0  # of those that failed: they go no further
    defaulted: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[ToldFault, ...] = ()  # the first faults, as row, code and message
    asked: int = 0
    cached_rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the advancer last told of a run."""

    state: JobState
    steps: tuple[StepProgress, ...] = ()
    output_rows: int = 0
    started_at_ms: int | None = None
    trouble: str | None = None  # what holds it up


def progress_of(state: StepState, failed_step: str | None = None) -> StepProgress:
    """Tell how far a step is."""
    step, report = state.step, state.report
    if step.id == failed_step:
        stage: Literal["waiting", "running", "completed", "failed"] = "failed"
    elif state.is_complete:
        stage = "completed"
    else:
        is_begun = state.done or state.busy or state.num_ordered or state.num_waiting
        stage = "running" if is_begun else "waiting"
    return StepProgress(
        id=step.id,
        type=type(step.spec).__name__.lower(),
        state=stage,
        shards_done=len(state.done),
        num_shards=state.num_shards,
        rows_in=report.rows_in,
        rows_out=report.rows_out,
        dropped=report.dropped,
        failed=report.failed,
        lost=report.lost,
        defaulted=report.defaulted,
        errors=report.errors,
        examples=report.examples,
        asked=report.asked,
        cached_rows=report.cached,
        prompt_tokens=report.prompt_tokens,
        completion_tokens=report.completion_tokens,
        models=step.models,
    )


def report_of(
    run: RunState,
    state: JobState,
    *,
    started_at_ms: int | None = None,
    trouble: str | None = None,
    failed_step: str | None = None,
) -> RunReport:
    """Tell how a run stands. Steps that the plan added are told with the author's own."""
    steps = tuple(
        progress_of(each, failed_step) for each in run.steps.values() if not each.step.is_internal
    )
    return RunReport(state, steps, run.output_rows, started_at_ms, trouble)
