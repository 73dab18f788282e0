"""What the server says about runs of workflows, as records; `records` has those of jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from ..jobs.model import JobState
from .records import Usage, moment_of
from .seen_state import seen_state


@dataclass(frozen=True, slots=True)
class StepRecord:
    """How far a step of a run is. `num_shards` is None while nobody can know."""

    id: str
    type: str = ""
    state: str = "waiting"  # waiting | running | completed | failed
    shards_done: int = 0
    num_shards: int | None = None
    rows_in: int = 0
    rows_out: int = 0
    dropped: int = 0
    failed: int = 0
    lost: int = 0  # of those that failed: they went no further
    defaulted: int = 0  # that went on with the step's default
    cached: int = 0
    usage: Usage = field(default_factory=Usage)
    errors_by_code: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[Mapping[str, str], ...] = ()  # the first of them: row_id, code, message
    models: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a step of a run object."""
        shards, rows = data.get("shards") or {}, data.get("rows") or {}
        usage = data.get("usage") or {}
        return cls(
            id=data["id"],
            type=data.get("type") or "",
            state=data.get("state") or "waiting",
            shards_done=shards.get("done") or 0,
            num_shards=shards.get("total"),
            rows_in=rows.get("in") or 0,
            rows_out=rows.get("out") or 0,
            dropped=rows.get("dropped") or 0,
            failed=rows.get("failed") or 0,
            lost=rows.get("lost") or 0,
            defaulted=rows.get("defaulted") or 0,
            cached=rows.get("cached") or 0,
            usage=Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0),
            errors_by_code=data.get("errors_by_code") or {},
            errors=tuple(data.get("errors") or ()),
            models=tuple(data.get("models") or ()),
        )


@dataclass(frozen=True, slots=True)
class RejectedInputLine:
    """A line of an input that could not become a row. `line` counts from 1."""

    input: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of a workflow as it stood when the server last told us."""

    id: str
    status: JobState
    workflow: str = ""
    name: str | None = None
    status_reason: str | None = None
    error: str | None = None
    input_rows: int = 0
    output_rows: int = 0
    rejected: int = 0
    rejected_lines: tuple[RejectedInputLine, ...] = ()  # the first of them
    priority: int | None = None
    retry_of: str | None = None
    steps: tuple[StepRecord, ...] = ()
    usage: Usage = field(default_factory=Usage)
    output_path: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the answer as it came

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a run object."""
        counts, usage = data.get("counts") or {}, data.get("usage") or {}
        return cls(
            id=data["id"],
            status=seen_state(data["status"]),
            workflow=data.get("workflow") or "",
            name=data.get("name"),
            status_reason=data.get("status_reason"),
            error=data.get("error"),
            input_rows=counts.get("input") or 0,
            output_rows=counts.get("output") or 0,
            rejected=counts.get("rejected") or 0,
            rejected_lines=tuple(
                RejectedInputLine(line["input"], line["line"], line["message"])
                for line in (data.get("rejected") or {}).get("errors") or ()
            ),
            priority=data.get("priority"),
            retry_of=data.get("retry_of"),
            steps=tuple(StepRecord.from_json(step) for step in data.get("steps") or ()),
            usage=Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0),
            output_path=(data.get("output") or {}).get("path"),
            created_at=moment_of(data.get("created_at")),
            started_at=moment_of(data.get("started_at")),
            finished_at=moment_of(data.get("finished_at")),
            metadata=data.get("metadata") or {},
            raw=data,
        )

    @property
    def duration_s(self) -> float | None:
        """Give the time from the start to the end, or to now while it runs."""
        if self.started_at is None:
            return None
        return ((self.finished_at or datetime.now(UTC)) - self.started_at).total_seconds()

    @property
    def num_failed(self) -> int:
        """Count the failures of rows, in all steps."""
        return sum(step.failed for step in self.steps)

    def step(self, step_id: str) -> StepRecord:
        """Find a step by its id."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(f"{self.id} has no step {step_id!r}")
