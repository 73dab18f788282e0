"""Which waiting requests go out together, and when: no thread, no clock, no server."""

import math
from concurrent.futures import Future
from typing import Any

import pytest

from penstock.api.batch_calls import Request
from penstock.api.batch_queue import Ask, BatchLimits, BatchQueue
from penstock.api.records import ChatAnswer


def make_queue(**limits: Any) -> BatchQueue[Future[ChatAnswer]]:
    return BatchQueue(BatchLimits(**limits))


def add(queue: BatchQueue[Any], since_s: float, model: str | None = None) -> Ask[Any]:
    ask: Ask[Future[ChatAnswer]] = Ask(Request(b"{}"), Future(), since_s)
    queue.add(model, ask)
    return ask


def test_goes_out_by_count() -> None:
    queue = make_queue(max_rows=2, max_wait_s=9)
    first = add(queue, 0.0)
    assert (queue.take(0.0), queue.due_in_s(1.0)) == (None, 8.0)
    second, third = add(queue, 0.5), add(queue, 0.5)
    batch = queue.take(0.5)
    assert batch is not None
    assert batch.asks == [first, second]
    assert (queue.take(0.5), queue.num_waiting) == (None, 1)
    assert queue.due_in_s(0.5) == 9.0
    batch = queue.take(9.5)
    assert batch is not None
    assert batch.asks == [third]
    assert queue.due_in_s(9.5) is None


def test_models_never_share_a_job_and_who_waited_longest_goes_first() -> None:
    queue = make_queue(max_rows=9, max_wait_s=1)
    b, a, b2 = add(queue, 0.0, "b"), add(queue, 0.1, "a"), add(queue, 0.2, "b")
    taken = [queue.take(5.0), queue.take(5.0), queue.take(5.0)]
    assert [batch and (batch.model, batch.asks) for batch in taken] == [
        ("b", [b, b2]),
        ("a", [a]),
        None,
    ]


def test_what_is_hastened_waits_for_no_company_and_what_comes_later_does() -> None:
    queue = make_queue(max_rows=9, max_wait_s=100)
    alone = add(queue, 1.0)
    queue.hasten(1.0)
    taken = queue.take(1.0)
    assert taken is not None and taken.asks == [alone]
    add(queue, 1.5)
    assert queue.take(2.0) is None


def test_nobody_sleeps_for_longer_than_a_clock_can_tell() -> None:
    queue = make_queue(max_wait_s=math.inf)
    add(queue, 0.0)
    assert queue.due_in_s(0.0) == 3600.0


def test_is_full_at_two_jobs_worth() -> None:
    queue = make_queue(max_rows=2)
    for number in range(4):
        assert not queue.is_full
        add(queue, float(number))
    assert queue.is_full
    assert len(queue.drain()) == 4
    assert not queue.is_full


@pytest.mark.parametrize(
    "limits",
    [{"max_rows": 0}, {"max_jobs": 0}, {"max_wait_s": -1}, {"max_wait_s": math.nan}],
)
def test_limits_that_let_nothing_through_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=min(limits)):
        BatchLimits(**limits)
