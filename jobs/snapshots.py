"""Makes a `JobSnapshot` of what the job table holds of a job. Knows its fields, no Redis."""

import datetime
from typing import Any

from .control import BY_USER_IN_WORDS
from .model import Counts, JobSnapshot, JobState

_ERROR = "error:"  # before the code, in the names of the counters of failed rows
_CODES_NAMED = 3


def read_snapshot(job_id: str, answer: Any) -> JobSnapshot | None:
    """Read the answer of snapshot.lua; None if the job is unknown."""
    flat, num_leased, is_last_leased = answer
    if not flat:
        return None
    fields: dict[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))

    def number(name: str) -> int:
        return int(fields[name])

    def number_or_none(name: str) -> int | None:
        return int(fields[name]) if fields.get(name) else None

    state = JobState(fields["state"])
    total, shard_rows, num_shards = number("num_rows"), number("shard_rows"), number("num_shards")
    running = num_leased * shard_rows
    if is_last_leased:
        running -= num_shards * shard_rows - total  # the last shard is the short one
    succeeded, failed = number("succeeded"), number("failed")
    waiting = total - running - succeeded - failed
    errors = {
        name.removeprefix(_ERROR): int(value)
        for name, value in fields.items()
        if name.startswith(_ERROR)
    }
    return JobSnapshot(
        job_id=job_id,
        state=state,
        counts=Counts(
            total=total,
            pending=0 if state.is_final else waiting,
            running=running,
            succeeded=succeeded,
            failed=failed,
            rejected=number("num_rejected"),
            not_run=waiting if state.is_final else 0,
            unparsed=number_or_none("unparsed") or 0,  # an older version did not count them
        ),
        num_shards=num_shards,
        shards_landed=number("shards_landed"),
        prompt_tokens=number("prompt_tokens"),
        completion_tokens=number("completion_tokens"),
        cached_tokens=number("cached_tokens"),
        created_at_ms=number("created_at_ms"),
        started_at_ms=number_or_none("started_at_ms"),
        finished_at_ms=number_or_none("finished_at_ms"),
        model=fields["model"],
        name=fields["name"] or None,
        priority=number("priority"),
        tenant=fields["tenant"],
        out=fields["out"],
        error=fields.get("error") or fields.get("trouble") or None,
        status_reason=_reason(state, fields),
        deadline_ms=number_or_none("deadline_ms"),
        max_error_rate=float(fields["max_error_rate"]) if fields.get("max_error_rate") else None,
        errors=errors,
        pause_reason=fields.get("pause_reason") or None,
        retry_of=fields.get("retry_of") or None,
    )


def _reason(state: JobState, fields: dict[str, str]) -> str | None:
    """Say why a job stands where it does, a code first: `paused_by_user: ...`."""
    match state:
        case JobState.PAUSED if fields.get("pause_reason") == "error_rate":
            return _too_many_errors(fields)
        case JobState.PAUSED if fields.get("pause_reason") == "storage_full":
            trouble = fields.get("trouble") or "storage_full: there is no room for its rows"
            return f"{trouble}; it goes on by itself"
        case JobState.PAUSED:
            return BY_USER_IN_WORDS
        case JobState.EXPIRED:
            return f"deadline_exceeded: it was to end by {_moment(fields.get('deadline_ms'))}"
        case JobState.CANCELLED:
            return "cancelled: what had landed by then stays"
        case JobState.FAILED:
            return f"failed: {fields.get('error') or 'no reason was given'}"
        case _ if fields.get("trouble"):
            return f"held_up: {fields['trouble']}"
        case _:
            return None


def _too_many_errors(fields: dict[str, str]) -> str:
    if "paused_at_rows" not in fields:  # an older version paused it, and kept no figures
        return "error_rate: more rows failed than max_error_rate allows; resume goes on"
    failed, rows, rate = (fields[f"paused_at_{name}"] for name in ("failed", "rows", "rate"))
    pairs = [pair.split("=") for pair in fields["paused_at_errors"].split(",") if pair]
    top = sorted(pairs, key=lambda pair: -int(pair[1]))[:_CODES_NAMED]
    told = f" ({', '.join(f'{code} {count}' for code, count in top)})" if top else ""
    return (
        f"error_rate: {failed} of {rows} rows failed, more than max_error_rate {rate} allows"
        f"{told}; resume goes on"
    )


def _moment(time_ms: str | None) -> str:
    if not time_ms:
        return "its deadline"
    moment = datetime.datetime.fromtimestamp(int(time_ms) / 1000, datetime.UTC)
    return moment.isoformat(timespec="seconds")
