"""A job as the fields of its hash, and rows as the arguments of scripts. Knows no Redis.

What is written here `snapshots` reads; "" stands for none.
"""

import re
from collections.abc import Mapping

from .control import PAUSED_BY_USER, Control
from .model import JobSpec, JobState
from .part_counts import PartCounts

Field = str | int | float

_CODE = re.compile(r"[^A-Za-z0-9_.-]")


def job_fields(spec: JobSpec, control: Control, state: JobState) -> dict[str, Field]:
    """Write a job as it is entered: nothing of it has run."""
    fields: dict[str, Field] = {
        **control_fields(control),
        "state": state.value,
        "model": spec.task.model,
        "tenant": spec.tenant,
        "out": spec.out_url or spec.out,
        "num_rows": spec.num_rows,
        "num_rejected": spec.num_rejected,
        "num_shards": spec.num_shards,
        "shard_rows": spec.shard_rows,
        "created_at_ms": spec.created_at_ms,
        "cursor": 0,
        "last_attempt": 0,
        "shards_landed": 0,
        "succeeded": 0,
        "failed": 0,
        "unparsed": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cached_tokens": 0,
        **judged_fields(control),
        "retry_of": spec.retry_of or "",
    }
    if state is JobState.PAUSED:
        fields["pause_reason"] = control.pause_reason or PAUSED_BY_USER
    return fields


def control_fields(control: Control) -> dict[str, Field]:
    """Write what can be changed about a job."""
    rate, deadline_ms = control.max_error_rate, control.deadline_ms
    return {
        "name": control.name or "",
        "priority": control.priority,
        "deadline_ms": "" if deadline_ms is None else deadline_ms,
        "max_error_rate": "" if rate is None else rate,
        "error_rate_after": control.error_rate_after,
    }


def judged_fields(control: Control) -> dict[str, Field]:
    """Write what had landed when a job was last resumed, of which it is judged no more."""
    return {
        "judged_from_rows": control.judged_from_rows,
        "judged_from_failed": control.judged_from_failed,
        "judged_from_errors": _by_code(control.judged_from_errors),
    }


def count_arguments(part: PartCounts) -> tuple[int | str, ...]:
    """Write what landed rows add up to, in the order in which every script takes it."""
    return (
        part.rows,
        part.failed,
        part.unparsed,
        part.prompt_tokens,
        part.completion_tokens,
        part.cached_tokens,
        _by_code(part.errors),
    )


def _by_code(errors: Mapping[str, int]) -> str:
    return ",".join(f"{_CODE.sub('_', code)[:60]}={count}" for code, count in errors.items())
