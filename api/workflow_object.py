"""How runs of workflows and the histories of their rows look over HTTP. Knows no route."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from ..jobs.workflow.runs.report import StepProgress
    from ..jobs.workflow.runs.runs import RunSnapshot
    from ..jobs.workflow.runs.tracing import RowTrace


def run_object(run: "RunSnapshot") -> dict[str, Any]:
    """Return a run as clients see it. Times are unix seconds."""
    return {
        "id": run.run_id,
        "object": "workflow.run",
        "workflow": run.workflow_name,
        "name": run.name,
        "status": run.state.value,
        "status_reason": run.status_reason,
        "created_at": _seconds(run.created_at_ms),
        "started_at": _seconds(run.started_at_ms),
        "finished_at": _seconds(run.finished_at_ms),
        "error": run.error,
        "counts": {
            "input": run.num_rows,
            "output": run.output_rows,
            "rejected": run.num_rejected,
        },
        "rejected": {
            "count": run.num_rejected,
            "errors": [asdict(line) for line in run.rejected],
        },
        "is_preview": run.is_preview,
        "priority": run.priority,
        "usage": {
            "prompt_tokens": sum(step.prompt_tokens for step in run.steps),
            "completion_tokens": sum(step.completion_tokens for step in run.steps),
        },
        "steps": [step_object(step) for step in run.steps],
        "output": {"path": run.out},
        "metadata": dict(run.metadata),
        "retry_of": run.retry_of,
    }


def step_object(step: "StepProgress") -> dict[str, Any]:
    """Return how far a step is."""
    return {
        "id": step.id,
        "type": step.type,
        "state": step.state,
        "shards": {"done": step.shards_done, "total": step.num_shards},
        "rows": {
            "in": step.rows_in,
            "out": step.rows_out,
            "dropped": step.dropped,
            "failed": step.failed,
            "lost": step.lost,
            "defaulted": step.defaulted,
            "cached": step.cached_rows,
        },
        "errors_by_code": dict(step.errors),
        "errors": [
            {"row_id": row_id, "code": code, "message": message}
            for row_id, code, message in step.examples
        ],
        "usage": {
            "prompt_tokens": step.prompt_tokens,
            "completion_tokens": step.completion_tokens,
        },
        "models": list(step.models),
    }


def trace_object(trace: "RowTrace") -> dict[str, Any]:
    """Return what one step did for a row: what was asked, what was answered, what came of it."""
    return {
        "step": trace.step,
        "row_id": trace.row_id,
        "parents": list(trace.parents),
        "requests": [dict(request) for request in trace.requests],
        "answers": [_answer_object(answer) for answer in trace.answers],
        "value": trace.value,
        "meta": trace.meta,
        "error": None if trace.error is None else asdict(trace.error),
    }


def row_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Encode rows as JSON lines."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _answer_object(answer: Any) -> Any:
    """Leave out of an answer what it does not say; bytes of a vector are for Parquet."""
    said = asdict(answer) if is_dataclass(answer) and not isinstance(answer, type) else answer
    if not isinstance(said, Mapping):
        return said
    return {
        name: value
        for name, value in said.items()
        if value not in (None, (), False) and not isinstance(value, bytes)
    }


def _seconds(time_ms: int | None) -> float | None:
    return None if time_ms is None else time_ms / 1000
