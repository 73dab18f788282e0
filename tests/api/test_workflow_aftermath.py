"""What went wrong in a run, and what is done about it: over HTTP, from Python and as a command."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from penstock import AsyncClient, Client
from penstock.api.client_errors import BadRequest, Conflict
from penstock.api.workflow_run import WorkflowRun
from penstock.jobs.control import read_control
from penstock.jobs.job_dir import JobDir

from .command import Penstock
from .conftest import MODEL, Stack
from .plain_workflows import WORKFLOW, endless, rows

RUNS = "/v1/workflows/runs"
FAILING: dict[str, Any] = {
    **WORKFLOW,
    "name": "failing",
    "params": {},
    "steps": [
        {"id": "half", "type": "map", "set": {"x": "12 / row.size"}, "on_error": "drop"},
        {"id": "said", "type": "generate", "model": MODEL,
         "prompt": "{% if row.size > 2 %}[[fail]]{% endif %}[[say]]{{ row.text }}"},
    ],
    "output": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowRun]:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(5)) + "{broken\n")
    with Client(stack.url) as client:
        yield client.workflows.run(FAILING, {"texts": path}, use_cache=False).wait(timeout_s=60)


def where(error: dict[str, Any]) -> tuple[Any, ...]:
    return error.get("line") or error["step"], error.get("row_id"), error.get("outcome")


ALL = [
    (6, None, None),
    ("half", "0", "dropped"),
    ("said", "3", "kept"),
    ("said", "4", "kept"),
]


class TestErrors:
    def test_they_come_page_by_page(self, http: httpx2.Client, run: WorkflowRun) -> None:
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 1}
        while params.get("after", "") is not None:
            page = http.get(f"{RUNS}/{run.id}/errors", params=params).json()
            assert len(page["data"]) <= 1
            assert page["has_more"] == (page["next_cursor"] is not None)
            found += page["data"]
            params["after"] = page["next_cursor"]
        assert [where(each) for each in found] == ALL
        assert found[0]["input"] == "texts"
        assert "by zero" in found[1]["message"]
        assert (found[2]["stage"], found[2]["code"]) == ("engine", "engine_error")

    @pytest.mark.parametrize(
        ("params", "rest"),
        [
            ({"step": "said"}, ALL[2:]),
            ({"code": "expression_error"}, ALL[1:2]),
            ({"code": "rejected_line"}, ALL[:1]),
            ({"step": "half", "code": "engine_error"}, []),
        ],
    )
    def test_some_of_them(self, run: WorkflowRun, params: Any, rest: Any) -> None:
        assert [where(each) for each in run.errors(**params)] == rest

    @pytest.mark.parametrize("params", [{"step": "nope"}, {"after": "1.2"}, {"after": "x.y.z"}])
    def test_none_of_them(self, http: httpx2.Client, run: WorkflowRun, params: Any) -> None:
        assert http.get(f"{RUNS}/{run.id}/errors", params=params).status_code == 400

    def test_the_run_tells_the_lines_and_counts_what_was_lost(self, run: WorkflowRun) -> None:
        assert run.status == "completed_with_errors"
        [line] = run.record.rejected_lines
        assert (line.input, line.line) == ("texts", 6)
        half, said = run.steps
        assert (half.failed, half.lost, said.failed, said.lost) == (1, 1, 2, 0)

    def test_a_row_says_what_it_lacks(self, run: WorkflowRun) -> None:
        for step in ("said", None):
            found = {row.id: row.errors for row in run.results(step=step)}
            lacking = {"said": "engine_error"}
            assert found == {"1": {}, "2": {}, "3": lacking, "4": lacking}
        assert [row.ok for row in run.results()] == [True, True, False, False]
        assert {row.parent_id for row in run.step_rows("half")} == {None}

    def test_for_asyncio(self, stack: Stack, run: WorkflowRun) -> None:
        async def look() -> list[dict[str, Any]]:
            async with AsyncClient(stack.url) as client:
                found = await client.workflows.get(run.id)
                return [each async for each in found.errors(step="said")]

        assert [where(each) for each in asyncio.run(look())] == ALL[2:]

    def test_as_a_command(self, penstock: Penstock, stack: Stack, run: WorkflowRun) -> None:
        piped = penstock("errors", run.id, "--url", stack.url)
        assert [where(each) for each in piped.lines] == ALL
        seen = penstock("errors", run.id, "--step", "half", "--url", stack.url, "-o", "table")
        assert "by zero" in seen.out
        assert "3" not in penstock("errors", run.id, "--code", "x", "--url", stack.url).out
        shown = penstock("show", run.id, "--url", stack.url, "-o", "table")
        assert "inputs.texts line 6 rejected" in shown.err

    def test_a_screen_shows_the_kinds_and_how_many(self, penstock: Penstock, stack: Stack) -> None:
        texts = [{"text": "x", "size": 0} for _ in range(23)]
        with Client(stack.url) as client:
            many = client.workflows.run(FAILING, {"texts": texts}).wait(timeout_s=60)
        seen = penstock("errors", many.id, "--url", stack.url, "-o", "table")
        assert "half: 23 errors" in seen.out
        assert seen.out.count("by zero") == 1
        assert "row 0, row 1, row 2, row 3, row 4, …" in seen.out


class TestRetry:
    def test_it_asks_only_what_failed(self, stack: Stack, run: WorkflowRun) -> None:
        with Client(stack.url) as client:
            again = client.workflows.get(run.id).retry().wait(timeout_s=60)
        assert (again.record.retry_of, again.record.metadata["retry_of"]) == (run.id, run.id)
        assert (again.step("said").cached, again.step("said").failed) == (2, 2)
        assert (again.record.rejected, again.record.input_rows) == (1, 5)
        answered = run.usage.completion_tokens
        assert again.usage.completion_tokens < answered

    def test_as_a_command(self, penstock: Penstock, stack: Stack, run: WorkflowRun) -> None:
        again = penstock("retry", run.id, "--watch", "--url", stack.url)
        assert again.code == 4, again.err
        assert again.lines[-1]["retry_of"] == run.id
        begun = penstock("retry", run.id, "--url", stack.url)
        assert "lands a whole output" in begun.err
        refused = penstock("retry", run.id, "--code", "engine_error", "--url", stack.url)
        assert (refused.code, "all that failed" in refused.err) == (2, True)

    def test_what_has_not_ended_or_not_failed(self, stack: Stack) -> None:
        with Client(stack.url) as client:
            good = client.workflows.run(WORKFLOW, {"texts": rows(1)}).wait(timeout_s=60)
            with pytest.raises(Conflict, match="nothing to retry"):
                good.retry()
            going_on = client.workflows.run(endless(), {"texts": rows(1)})
            with pytest.raises(Conflict, match="has not ended"):
                going_on.retry()
            going_on.cancel()


class TestChanges:
    def test_they_act_at_once_on_what_is_asked(self, penstock: Penstock, stack: Stack) -> None:
        with Client(stack.url) as client:
            run = client.workflows.run(endless(), {"texts": rows(1)}, name="before")
            deadline = time.monotonic() + 60
            while not (orders := sorted(stack.settings.jobs_dir.glob(f"{run.id}-*/job.json"))):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            changed = penstock("priority", run.id, "7", "--url", stack.url)
            assert changed.lines[0]["priority"] == 7
            order = JobDir(stack.settings.jobs_dir, orders[0].parent.name)
            while read_control(order, order.read_spec()).priority != 7:  # it was being made
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert penstock("update", run.id, "--name", "x", "--url", stack.url).code == 0
            refused = penstock("update", run.id, "--deadline", "2h", "--url", stack.url)
            assert "--name and --priority" in refused.err
            assert run.update(metadata={"a": "b"}).record.metadata == {"a": "b"}
            assert (run.name, run.record.priority) == ("x", 7)
            run.cancel()
            assert run.update(name=None).name is None
            with pytest.raises(BadRequest, match="another priority would have no effect"):
                run.update(priority=3)
            with pytest.raises(TypeError, match="'deadline' of a run cannot be changed"):
                run.update(deadline=3)  # pyright: ignore[reportCallIssue]


def test_a_watcher_is_told_how_a_paused_run_goes_on(stack: Stack) -> None:
    texts = [{"text": "x", "size": 9} for _ in range(120)]
    with Client(stack.url) as client:
        strict = {**FAILING, "max_error_rate": 0.1}
        run = client.workflows.run(strict, {"texts": texts}, use_cache=False)
        command = [sys.executable, "-m", "penstock.api.cli", "watch", run.id, "--url", stack.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watcher:
            assert watcher.stderr is not None
            assert any("lets it go on" in line for line in watcher.stderr)
            assert watcher.wait(60) == 5, "nobody looks on who could resume it"
        reason = run.refresh().record.status_reason or ""
        run.cancel()
    assert reason.startswith("error_rate: step said: 120 of 120 rows failed (100.0%")
    assert "engine_error 120" in reason
