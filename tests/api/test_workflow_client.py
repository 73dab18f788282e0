"""Workflows from Python: the client and its twin against a real server, and what they read."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock import AsyncClient, Client, Workflow
from penstock.api.client import Jobs
from penstock.api.client_errors import (
    BadRequest,
    Conflict,
    InvalidInput,
    JobFailed,
    JobPaused,
    NotFound,
    WaitTimedOut,
)
from penstock.api.job import Job
from penstock.api.workflow_client import Workflows
from penstock.api.workflow_inputs import count_of, sample_of
from penstock.api.workflow_models import models_of
from penstock.api.workflow_run import WorkflowRun

from .conftest import MODEL, Stack
from .plain_workflows import WORKFLOW, endless, rows
from .scripted import connect, page, script

SAID = [{"text": f"t{number}!", "size": number + 1} for number in range(3)]


def _delete(client: Client, run_id: str) -> None:
    """Remove a run as soon as nothing that served it is at work any more."""
    deadline = time.monotonic() + 60
    while True:
        try:
            client.workflows.get(run_id).delete()
        except Conflict:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def joined() -> Workflow:
    """A workflow of two inputs and no model."""
    workflow = Workflow("joined")
    texts, names = workflow.input("texts"), workflow.input("names")
    both = texts.join("names_of", names, on="size", how="inner")
    both.map("whole", set={"text": "row.text + row.names_of.name"})
    return workflow.output(select=["whole.text"])


class TestClient:
    def test_a_run_from_its_beginning_to_its_rows(self, stack: Stack) -> None:
        with Client(stack.url) as client:
            run = client.workflows.run(WORKFLOW, {"texts": rows(3)}, name="mine", seed=3)
            kinds = {event.kind for event in run.events()}
            assert run.wait(timeout_s=60).status == "completed"
            assert {"job.status", "done"} <= kinds
            assert [row["said"] for row in run.results()] == SAID
            assert [row["said"] for row in run.step_rows("largest", page_rows=2)] == SAID
            assert run.row("1/copy#0")[1]["requests"][0]["prompt"].startswith("[[say]]")
            assert run.step("said").rows_out == 6
            assert run.usage.completion_tokens > 0
            assert client.workflows.get(run.id).name == "mine"
            assert client.workflows.list(limit=1)[0].id == run.id
            assert "said-twice completed 4/4 steps" in repr(run)
            table = run.to_arrow()
            assert [json.loads(text) for text in table.column("said").to_pylist()] == SAID
            with pytest.raises(KeyError, match="no step 'nope'"):
                run.step("nope")

    def test_what_was_asked_is_told_where_an_earlier_run_has_answered(self, stack: Stack) -> None:
        texts = {"texts": [{"text": "once", "size": 1}]}
        with Client(stack.url) as client:
            first, second = (
                client.workflows.run(WORKFLOW, texts).wait(timeout_s=60) for _ in range(2)
            )
            asked = [trace["requests"] for trace in second.row("0/copy#1")]
            assert asked == [trace["requests"] for trace in first.row("0/copy#1")]
            answered = [trace["answers"] for trace in second.row("0/copy#1")]
            assert answered[1][0]["text"] == '{"text": "once!", "size": 2}'
            assert (answered[1][0]["is_cached"], answered[0]) == (True, [])
        assert second.step("said").cached == 2
        assert asked[1][0]["prompt"] == '[[say]]{"text": "once!", "size": 2}'

    def test_every_kind_of_rows(self, stack: Stack, tmp_path: Path) -> None:
        path = tmp_path / "texts.csv"
        path.write_text("text,size\na,1\nb,2\n")
        frame = pd.DataFrame({"size": ["1", "2"], "name": ["x", "y"]})
        with Client(stack.url) as client, stack.http() as http:
            own = {"purpose": "user_data", "limit": 100}
            before = http.get("/v1/files", params=own).json()["data"]
            run = client.workflows.run(joined(), {"texts": path, "names": frame})
            assert [row["whole_text"] for row in run.results()] == ["ax", "by"]
            assert http.get("/v1/files", params=own).json()["data"] == before

    def test_a_workflow_is_kept_and_found(self, stack: Stack) -> None:
        workflow = Workflow.from_dict({**WORKFLOW, "name": "from-python"})
        with Client(stack.url) as client:
            assert client.workflows.save(workflow) == 1
            assert client.workflows.load("from-python") == workflow
            assert "from-python" in [each["name"] for each in client.workflows.saved()]
            run = client.workflows.run("from-python", {"texts": rows(1)})
            assert [row["said"] for row in run.results()] == SAID[:1]
            assert "$defs" in client.workflows.schema()

    def test_trials(self, stack: Stack, tmp_path: Path) -> None:
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(500)))
        with Client(stack.url) as client:
            assert client.workflows.validate(WORKFLOW, {"texts": path})["columns_known"] is True
            found = client.workflows.preview(WORKFLOW, {"texts": path}, rows=1)
            assert [len(step["rows"]) for step in found["steps"]] == [2, 2, 1, 1]
            plan = client.workflows.plan(WORKFLOW, {"texts": path}, sample_rows=4)
            assert plan["num_rows"] == {"texts": 500}
            assert plan["steps"][1]["rows_out"]["estimate"] == 1_000

    def test_the_rows_of_the_only_input_need_no_name(self, stack: Stack, tmp_path: Path) -> None:
        file, data = tmp_path / "said.yaml", tmp_path / "texts.jsonl"
        file.write_text(Workflow.from_dict(WORKFLOW).to_yaml())
        data.write_text("".join(json.dumps(row) + "\n" for row in rows(3)))
        with Client(stack.url) as client:
            client.workflows.save(WORKFLOW)
            copies = client.workflows.run(WORKFLOW, rows(3)).results(step="copy")
            assert len(list(copies)) == 6
            for given in (rows(3), pd.DataFrame(rows(3)), data, str(data), iter(rows(3))):
                run = client.workflows.run(str(file), given).wait(timeout_s=60)
                assert [row["said"] for row in run.results()] == SAID
            assert client.workflows.run("said-twice", rows(3)).record.input_rows == 3
            assert client.workflows.validate(str(file), rows(1))["columns_known"] is True
            assert client.workflows.validate(file)["valid"] is True
            found = client.workflows.preview(file, rows(5), rows=1)
            assert found["run"]["counts"]["input"] == 1
            assert client.workflows.plan(file, str(data))["num_rows"] == {"texts": 3}
            with pytest.raises(InvalidInput, match="has the inputs texts, names: name each"):
                client.workflows.run(joined(), rows(3))
            with pytest.raises(InvalidInput, match="cannot read"):
                client.workflows.run(str(tmp_path / "none.yaml"), rows(3))

        async def told_by_the_twin() -> dict[str, Any]:
            async with AsyncClient(stack.url) as client:
                run = await client.workflows.run(str(file), rows(2))
                assert run.record.input_rows == 2
                return await client.workflows.validate("said-twice", rows(1))

        assert asyncio.run(told_by_the_twin())["columns_known"] is True

    def test_all_problems_are_there(self, stack: Stack) -> None:
        workflow = Workflow("bad", defaults={"model": MODEL})
        workflow.input("texts").filter("a", "row.nope").filter("b", "row.text >")
        with Client(stack.url) as client, pytest.raises(BadRequest) as caught:
            client.workflows.run(workflow, {"texts": rows(1)})
        assert {error["param"].split(".")[1] for error in caught.value.errors} == {"a", "b"}

    def test_inputs_are_refused_by_their_names(self) -> None:
        handler, _ = script()
        client = connect(handler)
        with pytest.raises(InvalidInput, match="has no input 'zz'; inputs: texts, names"):
            client.workflows.run(joined(), {"zz": rows(1)})
        with pytest.raises(InvalidInput, match="input 'names': there are no rows"):
            client.workflows.validate(joined(), {"texts": rows(1), "names": []})

    def test_a_run_is_steered(self, stack: Stack) -> None:
        with Client(stack.url) as client:
            run = client.workflows.run(endless(), {"texts": rows(1)})
            with pytest.raises(WaitTimedOut, match=r"has not ended after 0\.1 s"):
                run.wait(timeout_s=0.1)
            with pytest.raises(Conflict, match="has not ended"):
                client.workflows.delete(run.id)
            assert run.pause().status == "paused"
            with pytest.raises(JobPaused, match="pauses before all of its rows have landed"):
                list(run.results())
            with pytest.raises(JobPaused, match="resume it, or wait with through_pauses=True"):
                run.wait()
            with pytest.raises(WaitTimedOut):
                run.wait(timeout_s=0.1, through_pauses=True)
            assert list(run.results(follow=False)) == []
            assert client.workflows.resume(run.id).status in ("queued", "running")
            assert client.workflows.pause(run.id).status == "paused"
            assert run.resume().status in ("queued", "running")
            assert client.workflows.update(run.id, name="mine", priority=3).name == "mine"
            assert client.workflows.cancel(run.id).status == "cancelled"
            assert run.cancel().is_final
            cancelled = client.workflows.list(limit=100, status=["cancelled", "failed"])
            assert run.id in {each.id for each in cancelled}
            assert {each.status for each in cancelled} <= {"cancelled", "failed"}
            assert client.workflows.retry(run.id).cancel().record.retry_of == run.id
            assert run.refresh().is_final
            assert run.wait() is run
            assert run.id in {each.id for each in client.workflows.list(limit=100)}
            _delete(client, run.id)
            with pytest.raises(NotFound):
                run.refresh()
            with pytest.raises(NotFound):
                client.workflows.get("run_nope")

    def test_the_twin_says_the_same(self, stack: Stack) -> None:
        async def talk() -> None:
            async with AsyncClient(stack.url) as client:
                run = await client.workflows.run(WORKFLOW, {"texts": rows(3)})
                kinds = {event.kind async for event in run.events()}
                await run.wait(timeout_s=60)
                assert {"job.status", "done"} <= kinds
                assert [row["said"] async for row in run.results()] == SAID
                assert len([row async for row in run.step_rows("copy")]) == 6
                assert len([row async for row in run.results(step="copy")]) == 6
                assert (await run.row("1/copy#0"))[-1]["step"] == "said"
                assert (await run.to_arrow()).num_rows == 3
                assert (await client.workflows.get(run.id)).status == "completed"
                assert (await client.workflows.list(limit=1))[0].id == run.id
                assert (await client.workflows.validate(WORKFLOW, {}))["valid"] is True
                assert await client.workflows.save({**WORKFLOW, "name": "from-twin"}) == 1
                assert (await client.workflows.load("from-twin")).name == "from-twin"

        asyncio.run(talk())


@pytest.mark.parametrize("pair", [(Jobs, Workflows), (Job, WorkflowRun)])
def test_what_can_be_done_with_jobs_can_be_done_with_runs(pair: tuple[type, type]) -> None:
    jobs, runs = ({verb for verb in dir(kind) if not verb.startswith("_")} for kind in pair)
    told_otherwise = {"submit", "counts", "iter_errors"}  # by `run`, by steps, by `errors`
    assert jobs - runs <= told_otherwise


def run_json(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "run_1", "status": status, "a_field_of_a_newer_server": 1, **more}


def test_a_run_that_failed_raises_its_reason() -> None:
    failed = httpx2.Response(200, json=run_json("failed", error="step a: it broke"))
    handler, _ = script(httpx2.Response(200, json=run_json("running")), failed)
    with connect(handler) as client, pytest.raises(JobFailed, match="step a: it broke"):
        client.workflows.get("run_1").wait()


def test_a_server_that_is_away_is_borne_while_rows_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    away = [httpx2.ConnectError("refused") for _ in range(9)]
    handler, _ = script(httpx2.Response(200, json=run_json("running")), *away, page(after=None))
    with connect(handler) as client:
        run = client.workflows.get("run_1")
        assert list(run.results()) == []
        with pytest.raises(ValueError, match="page_rows must be from 1 to 10000, got 0"):
            next(run.results(page_rows=0))


def test_options_that_nobody_knows() -> None:
    handler, calls = script()
    with connect(handler) as client, pytest.raises(TypeError, match="unknown option 'sede'"):
        client.workflows.run(WORKFLOW, {}, sede=1)  # pyright: ignore[reportCallIssue]  # the mistake
    assert calls == []


class TestInputs:
    @pytest.fixture(params=["jsonl", "csv", "parquet", "list", "frame"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        found = [{"text": f"t{number}", "size": str(number)} for number in range(300)]
        path = tmp_path / f"rows.{request.param}"
        match request.param:
            case "jsonl":
                path.write_text("\ufeff" + "\n".join(map(json.dumps, found)), encoding="utf-8")
            case "csv":
                path.write_text("text,size\n" + "".join(f"t{n},{n}\n" for n in range(300)))
            case "parquet":
                pq.write_table(pa.Table.from_pylist(found), path)
            case "list":
                return found
            case _:
                return pd.DataFrame(found)
        return path

    def test_the_first_rows_and_their_number(self, source: Any) -> None:
        assert sample_of(source, 2) == {
            "rows": [{"text": "t0", "size": "0"}, {"text": "t1", "size": "1"}]
        }
        assert len(sample_of(source)["rows"]) == 200
        assert count_of(source) == 300

    def test_what_the_server_reads_is_left_to_it(self) -> None:
        assert sample_of("s3://bucket/rows.parquet") == {"path": "s3://bucket/rows.parquet"}
        assert count_of("s3://bucket/rows.parquet") is None
        assert count_of(iter([{}])) is None

    def test_bad_lines_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text('nothing\n[1]\n{"a": 1}\n')
        assert sample_of(path) == {"rows": [{"a": 1}]}

    @pytest.mark.parametrize("name", ["none.jsonl", "none.parquet", "text.parquet", "empty.jsonl"])
    def test_what_cannot_be_read(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "text.parquet").write_text("no")
        (tmp_path / "empty.jsonl").write_text("")
        with pytest.raises(InvalidInput):
            sample_of(tmp_path / name)


@pytest.mark.parametrize(
    ("document", "params", "models"),
    [
        ({"defaults": {"model": "a"}, "steps": [{"model": "b"}, {"model": "a"}]}, {}, ["a", "b"]),
        ({"steps": [{"model": "{{ params.m }}"}], "params": {"m": "a"}}, {}, ["a"]),
        ({"steps": [{"model": "{{ params.m }}"}], "params": {"m": "a"}}, {"m": "b"}, ["b"]),
        (
            {
                "params": {"ms": ["a", "b"]},
                "steps": [{"cross": {"m": "{{ params.ms }}"}}, {"model": "{{ row.m }}"}],
            },
            {},
            ["a", "b"],
        ),
        ({"steps": [{"cross": {"m": ["c"]}}, {"model": "{{row.m}}"}]}, {}, ["c"]),
        ({"steps": [{"model": "{{ row.x | upper }}"}, {"model": "{{ row.gone }}"}]}, {}, []),
    ],
)
def test_the_models_that_a_workflow_names(
    document: dict[str, Any], params: dict[str, Any], models: list[str]
) -> None:
    assert models_of(document, params) == models
