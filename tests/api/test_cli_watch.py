"""`penstock watch` and `penstock jobs`: what who looks on learns of pauses, ends and states."""

import re
import sys

import pytest

from penstock.api.client import Client

from .command import Penstock
from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_workflows import endless, rows as workflow_rows
from .terminal import terminal

WATCH = (sys.executable, "-m", "penstock.api.cli", "watch")
ENDLESS = [{"text": "[[long]]"}] * 4


@pytest.mark.parametrize("what", ["job", "run"])
def test_who_watches_learns_of_a_pause_and_of_the_end(stack: Stack, what: str) -> None:
    with Client(stack.url) as client:
        watched = (
            client.jobs.submit(ENDLESS, prompt="{{ row.text }}", model=MODEL)
            if what == "job"
            else client.workflows.run(endless(), {"texts": workflow_rows(1)})
        )
        with terminal([*WATCH, watched.id, "--url", stack.url]) as screen:
            watched.pause()
            screen.wait_to_hear("paused: ")
            screen.wait_to_hear(f"resume {watched.id}")
            watched.cancel()
            assert screen.wait_for_end() == 3


def test_a_job_that_pauses_itself_says_why(stack: Stack) -> None:
    rows = [{"text": "[[fail]]"}] * 64 + ENDLESS
    with Client(stack.url) as client:
        job = client.jobs.submit(
            rows, prompt="{{ row.text }}", model=MODEL, max_error_rate=0.1, error_rate_after=10
        )
        try:
            with terminal([*WATCH, job.id, "--url", stack.url], columns=100) as screen:
                screen.wait_to_hear("paused: error_rate")
                screen.wait_to_hear(f"penstock resume {job.id}")
                assert re.search(
                    r"(\n|\x1b\[\??\d*[A-Za-z])paused: ", screen.heard
                )  # on a line of its own
                screen.press("\x03")
                assert screen.wait_for_end() == 130
                assert f"penstock watch {job.id}  re-attaches" in screen.heard
        finally:
            job.cancel()


def test_a_program_is_not_kept_waiting_for_a_paused_job(penstock: Penstock, stack: Stack) -> None:
    with Client(stack.url) as client:
        job = client.jobs.submit(ENDLESS, prompt="{{ row.text }}", model=IDLE_MODEL).pause()
        try:
            left = penstock("watch", job.id, "--url", stack.url)
        finally:
            job.cancel()
    assert (left.code, left.lines[-1]["status"]) == (5, "paused")
    assert f"paused: somebody wanted it. penstock resume {job.id}" in left.err


def test_jobs_in_some_states(penstock: Penstock, stack: Stack) -> None:
    with Client(stack.url) as client:
        job = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=MODEL).wait()
    at = ("--url", stack.url)
    completed = penstock("jobs", "--status", "completed", "--status", "failed", *at).lines
    assert job.id in {line["id"] for line in completed}
    assert {line["status"] for line in completed} <= {"completed", "failed"}
    assert penstock("jobs", "--status", "paused", *at).lines == []
    with_errors = penstock("jobs", "--status", "errors", *at)
    assert with_errors.code == 0, "as the table writes it"
    assert {line["status"] for line in with_errors.lines} <= {"completed_with_errors"}
    assert penstock("jobs", "--status", "asleep", *at).code == 2


def test_what_a_state_does_not_allow_is_usage(penstock: Penstock, stack: Stack) -> None:
    at = ("--url", stack.url)
    with Client(stack.url) as client:
        ended = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=MODEL).wait()
        lives = client.jobs.submit(ENDLESS, prompt="{{ row.text }}", model=MODEL)
        try:
            assert penstock("delete", lives.id, *at).code == 2
            assert penstock("retry", ended.id, *at).code == 2
        finally:
            lives.cancel()
        run = client.workflows.run(endless(), {"texts": workflow_rows(1)})
        assert penstock("retry", run.id, *at).code == 2, "it lives"
        run.cancel()


def test_who_follows_results_on_a_terminal_gets_them_all(penstock: Penstock, stack: Stack) -> None:
    rows = [{"text": f"number {n}"} for n in range(45)]
    with Client(stack.url) as client:
        job = client.jobs.submit(rows, prompt="{{ row.text }}", model=MODEL)
    found = penstock("results", job.id, "--follow", "-o", "table", "--url", stack.url)
    heads = [line for line in found.out.splitlines() if line.startswith("row")]
    assert len(heads) == 3, "a table for each screenful"
    assert re.search(r"^ *44 ", found.out, re.MULTILINE)
