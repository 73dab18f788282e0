"""A dry run as clients see it. Knows records, no HTTP."""

from dataclasses import asdict
from typing import Any

from ..jobs.dry_run_report import DryRunReport
from .validation_estimate import Estimate


def validation_object(
    report: DryRunReport, model: str, estimate: Estimate | None = None
) -> dict[str, Any]:
    """Return the object of a report; without an estimate, what it would tell is unknown."""
    found = asdict(report)
    prefix_reuse = found["prefix_reuse"]
    if prefix_reuse is not None:
        prefix_reuse["share"] = _share(prefix_reuse["tokens"], prefix_reuse["of_tokens"])
    has_time = estimate is not None and estimate.seconds_p90 is not None
    return {
        "object": "job.validation",
        "model": model,
        "ok": report.is_fine,
        "complete": report.complete,
        "stopped": report.stopped,
        "rows": report.rows,
        "refusal": found["refusal"],
        "bad_lines": found["bad_lines"],
        "row_errors": found["row_errors"],
        "too_long": found["too_long"],
        "duplicates": found["duplicates"] | {"share": _share(report.duplicates.count, report.rows)},
        "duplicate_ids": found["duplicate_ids"],
        "input_tokens": found["input_tokens"],
        "output_tokens": {
            "at_most": report.output_at_most,
            "expected": estimate.output_tokens if estimate else None,
            "p90": estimate.output_tokens_p90 if estimate else None,
        },
        "prefix_reuse": prefix_reuse,
        "seconds": {"p50": estimate.seconds_p50, "p90": estimate.seconds_p90}
        if estimate is not None and has_time
        else None,
        "rests_on": estimate.rests_on if estimate else [],
        "unchecked": report.unchecked,
        "warnings": report.warnings,
    }


def progress_object(report: DryRunReport) -> dict[str, Any]:
    """Return how far a dry run is."""
    return {
        "object": "job.validation.progress",
        "rows": report.rows,
        "share_read": report.share_read,
    }


def waiting_object() -> dict[str, Any]:
    """Return how far a dry run is that has not had its turn: others are before it."""
    return {
        "object": "job.validation.progress",
        "rows": 0,
        "share_read": None,
        "waiting": True,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
