"""Tags: given when a job is submitted, shown with it, and found again by `penstock jobs`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api import cli_jobs
from penstock.api.cli_options import UsageProblem, sampling_of, settings_of, tags_of
from penstock.api.cli_workflow_inputs import inputs_of
from penstock.api.client import Client
from penstock.api.workflow import Workflow

from .command import Penstock
from .conftest import IDLE_MODEL, Stack
from .plain_workflows import WORKFLOW
from .scripted import connect, job_json


def test_a_job_is_found_by_its_tags(penstock: Penstock, stack: Stack, tmp_path: Path) -> None:
    rows, at = tmp_path / "rows.jsonl", ("--url", stack.url)
    rows.write_text('{"text": "x"}\n')
    submit = ("submit", rows, "--prompt", "{{ row.text }}", "-m", IDLE_MODEL, *at)
    [both] = penstock(*submit, "--tag", "team=blue", "--tag", "night=1=2").lines
    [one] = penstock(*submit, "--tag", "team=blue").lines
    try:
        assert both["metadata"] == {"team": "blue", "night": "1=2"}

        def found(*tags: str) -> list[str]:
            asked = [word for tag in tags for word in ("--tag", tag)]
            return [line["id"] for line in penstock("jobs", *asked, *at).lines]

        assert found("team=blue") == [one["id"], both["id"]]
        assert found("team=blue", "night=1=2") == [both["id"]]
        assert found("team=red") == []
        [line] = penstock("jobs", "--tag", "team=blue", "--limit", 1, *at).lines
        assert line["id"] == one["id"]
        shown = penstock("show", both["id"], "-o", "table", *at).out
        assert "team=blue" in shown
        assert "night=1=2" in shown
        assert penstock("jobs", "--tag", "team", *at).code == 2
    finally:
        with Client(stack.url) as client:
            for job in (both, one):
                client.jobs.cancel(job["id"])


@pytest.mark.parametrize("read", [tags_of, sampling_of, partial(settings_of, None)])
def test_a_name_that_is_given_twice_is_refused(read: Callable[[list[str]], object]) -> None:
    with pytest.raises(UsageProblem, match="'seed' is given twice: seed=1 and seed =2"):
        read(["seed=1", "other=1", "seed =2"])


def test_rows_that_are_given_twice_are_refused() -> None:
    spec = Workflow.from_dict(WORKFLOW)
    with pytest.raises(UsageProblem, match=r"input 'texts' is given twice: a.csv and b.csv"):
        inputs_of(spec.inputs, ["texts=a.csv", "texts=b.csv"])


def test_a_look_for_a_tag_has_an_end(penstock: Penstock, monkeypatch: pytest.MonkeyPatch) -> None:
    num_asked = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal num_asked
        num_asked += 1
        page: list[dict[str, Any]] = [job_json(id=f"job_{num_asked}_{n}") for n in range(100)]
        return httpx2.Response(200, json={"object": "list", "data": page, "has_more": True})

    monkeypatch.setattr(cli_jobs, "open_client", lambda *_: connect(answer))
    looked = penstock("jobs", "--tag", "team=blue")
    assert (looked.code, looked.out, num_asked) == (0, "", 20)
    assert "2,000 jobs were looked through; --after job_20_99  goes on" in looked.err
