"""Whether too many rows of a run fail: each step is judged by itself. Knows reports only."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from .report import StepProgress

JUDGED_AFTER = 100  # rows of a step, before their errors may pause a run
_CODES_TOLD = 3

Tallies: TypeAlias = Mapping[str, tuple[int, int]]  # of each step: its rows, and how many failed


def tallies(steps: Iterable[StepProgress]) -> Tallies:
    """Count what steps have done, and could not do. A default makes a fault no better."""
    return {step.id: (_num_rows(step), step.failed + step.defaulted) for step in steps}


def too_many(steps: Iterable[StepProgress], max_rate: float, since: Tallies) -> str | None:
    """Tell of the step that fails most, if it does so too often since it had those tallies."""
    worst: tuple[float, StepProgress, int, int] | None = None
    steps = list(steps)
    for step, (rows, failed) in zip(steps, tallies(steps).values(), strict=True):
        rows_before, failed_before = since.get(step.id, (0, 0))
        rows, failed = rows - rows_before, failed - failed_before
        if rows < JUDGED_AFTER or failed <= max_rate * rows:
            continue
        if worst is None or failed / rows > worst[0]:
            worst = (failed / rows, step, rows, failed)
    if worst is None:
        return None
    rate, step, rows, failed = worst
    return (
        f"error_rate: step {step.id}: {failed} of {rows} rows failed ({rate:.1%}, more than "
        f"{max_rate:.1%}): {_most_frequent(step)}"
    )


def _num_rows(step: StepProgress) -> int:
    """Count the rows that a step has worked on; where it asks, each sample is one."""
    return max(step.rows_in, step.rows_out + step.lost) if step.asked else step.rows_in


def _most_frequent(step: StepProgress) -> str:
    codes = sorted(step.errors.items(), key=lambda item: -item[1])[:_CODES_TOLD]
    words = {code: message for _, code, message in reversed(step.examples)}
    return "; ".join(
        f"{code} {count}" + (f" ({words[code][:200]})" if code in words else "")
        for code, count in codes
    )
