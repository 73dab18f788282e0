"""A server that is newer than the client: what is not known yet is borne, or clearly refused."""

import copy

import httpx2
import pytest
from rich.console import Console

from penstock import UnexpectedAnswer
from penstock.api.cards import job_card, run_card
from penstock.api.progress import JobProgress
from penstock.api.workflow_records import RunRecord
from penstock.jobs.model import JobState

from .scripted import connect, job_json, page, script


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def answered(status: str) -> httpx2.Response:
    return httpx2.Response(200, json=job_json(status))


def test_a_job_in_a_state_that_nobody_knows_goes_on() -> None:
    handler, _ = script(answered("archiving"), answered("archiving"), answered("completed"))
    job = connect(handler).jobs.get("job_1")
    assert (job.status, job.is_final, str(job.status)) == ("archiving", False, "archiving")
    assert "archiving" in repr(job)
    seen: list[str] = []
    assert job.wait(on_look=lambda record: seen.append(record.status)).status == "completed"
    assert seen == ["archiving", "completed"]
    assert "archiving" not in [*JobState], "it became none of ours"


def test_a_job_that_ended_in_such_a_state_is_not_waited_for() -> None:
    ended = httpx2.Response(200, json=job_json("archived", finished_at=1_700_000_002))
    handler, _ = script(answered("running"), ended)
    assert connect(handler).jobs.get("job_1").wait().status == "archived"


def test_the_rows_of_such_a_job_are_waited_for() -> None:
    handler, _ = script(
        answered("archiving"),
        page({"row_index": 0}, after="1", incomplete=True),
        page(after="1", incomplete=True),
        answered("archiving"),
        page({"row_index": 1}, after=None),
    )
    job = connect(handler).jobs.get("job_1")
    assert [row.index for row in job.results()] == [0, 1]


def test_such_a_state_is_drawn_as_it_is_called() -> None:
    handler, _ = script(httpx2.Response(200, json={"data": [job_json("archiving")]}))
    (job,) = connect(handler).jobs.list()
    run = RunRecord.from_json({"id": "run_1", "status": "archiving"})
    assert "archiving" in job_card(job.record)
    assert "archiving" in run_card(run)
    assert not run.status.is_final
    assert copy.deepcopy(run).status == "archiving"
    console = Console(record=True, width=200, force_terminal=False)
    with JobProgress(console) as bar:
        bar.show(job.record)
    assert "archiving" in console.export_text()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": "running"}, "KeyError: 'id'"),
        (["a", "list"], "AttributeError"),
    ],
)
def test_an_answer_of_another_shape_is_said_to_be_one(answer: object, why: str) -> None:
    handler, _ = script(httpx2.Response(200, json=answer))
    with pytest.raises(UnexpectedAnswer, match=f"http://test answered .*{why}.* older than"):
        connect(handler).jobs.get("job_1")
