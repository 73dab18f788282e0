"""When errors are too many: a step's own rows decide, those that it lost and those it made up."""

from typing import Any

import pytest

from penstock.jobs.workflow.runs.error_rates import JUDGED_AFTER, tallies, too_many
from penstock.jobs.workflow.runs.report import StepProgress


def step(step_id: str = "a", **counts: Any) -> StepProgress:
    return StepProgress(step_id, "map", "running", **counts)


@pytest.mark.parametrize("kind", ["failed", "defaulted"])
def test_a_default_makes_a_fault_no_better(kind: str) -> None:
    reason = too_many([step("a", **{"rows_in": 200, kind: 61})], 0.3, {})
    assert reason is not None
    assert reason.startswith("error_rate: step a: 61 of 200 rows failed (30.5%, more than 30.0%)")


def test_as_many_as_may_are_not_too_many() -> None:
    assert too_many([step(rows_in=200, failed=60)], 0.3, {}) is None


def test_few_rows_tell_nothing() -> None:
    assert too_many([step(rows_in=JUDGED_AFTER - 1, failed=JUDGED_AFTER - 1)], 0.0, {}) is None
    reason = too_many([step(rows_in=JUDGED_AFTER, failed=1)], 0.0, {})
    assert f"1 of {JUDGED_AFTER} rows failed" in (reason or "")


def test_each_sample_is_judged() -> None:
    sampled = step(rows_in=100, rows_out=290, lost=10, failed=50, asked=300)
    assert too_many([sampled], 0.3, {}) is None
    assert "50 of 300" in (too_many([sampled], 0.1, {}) or "")


def test_the_worst_of_several_is_told() -> None:
    steps = [step("a", rows_in=200, failed=90), step("b", rows_in=200, failed=180)]
    assert "step b: 180 of 200" in (too_many(steps, 0.3, {}) or "")


def test_what_was_before_is_not_held_against_it() -> None:
    before = [step(rows_in=200, failed=200)]
    after = [step(rows_in=400, failed=220, defaulted=10)]
    assert too_many(after, 0.2, tallies(before)) is None
    assert "30 of 200" in (too_many(after, 0.1, tallies(before)) or "")
