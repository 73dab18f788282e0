"""Answers as long as the whole context are refused at once, where a worker has told how long."""

from dataclasses import replace

import pytest

from penstock.jobs.dry_run_process import DryRunProcess
from penstock.jobs.errors import OverContext
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import TaskSpec
from penstock.jobs.settings import Settings
from penstock.jobs.sources import RowsSource
from penstock.jobs.submission import submit
from penstock.jobs.submit_request import SubmitRequest

from .small_jobs import nothing_is_left

ROWS = RowsSource([{"text": "a"}])
TASK = TaskSpec(model="m", prompt="Say {{ row.text }}", sampling={"max_tokens": 512})
REQUEST = SubmitRequest(TASK, idempotency_key="k")


def test_both_numbers_are_named_and_nothing_is_left(settings: Settings, table: JobTable) -> None:
    request = replace(REQUEST, context_window=512)
    with pytest.raises(OverContext, match=r"max_tokens=512 .* is 512 tokens") as refused:
        submit(settings, table, ROWS, request)
    assert refused.value.param == "max_tokens"
    assert nothing_is_left(settings)
    with pytest.raises(OverContext):
        DryRunProcess(settings, ROWS, request)
    assert submit(settings, table, ROWS, replace(REQUEST, context_window=513)).created


def test_what_was_accepted_before_a_worker_came_stays_accepted(
    settings: Settings, table: JobTable
) -> None:
    first = submit(settings, table, ROWS, REQUEST)
    again = submit(settings, table, ROWS, replace(REQUEST, context_window=512))
    assert (again.created, again.spec.job_id) == (False, first.spec.job_id)
