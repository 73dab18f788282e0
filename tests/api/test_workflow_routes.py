"""Workflows over HTTP: kept, checked, run, steered and read, against a real queue and worker."""

import json
import time
from typing import Any

import httpx2
import pytest

from penstock.jobs.job_dir import JobDir
from penstock.jobs.workflow.orders.order_names import order_name

from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_workflows import WORKFLOW, endless, rows

RUNS = "/v1/workflows/runs"


def begin(http: httpx2.Client, workflow: Any = WORKFLOW, count: int = 3, **more: Any) -> Any:
    body = {"workflow": workflow, "inputs": {"texts": {"rows": rows(count)}}, **more}
    answer = http.post(RUNS, json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{RUNS}/{answer.json()['id']}"
    return answer.json()


def ended(http: httpx2.Client, run_id: str, within_s: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        run = http.get(f"{RUNS}/{run_id}", params={"wait": 5}).json()
        if run["finished_at"] is not None:
            return run
        assert time.monotonic() < deadline, run


def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.content.splitlines()]


class TestRuns:
    @pytest.fixture(scope="class")
    @staticmethod
    def run(stack: Any) -> dict[str, Any]:
        with stack.http() as http:
            made = begin(http, count=5, params={"mark": "?"}, use_cache=False)
            return ended(http, made["id"])

    @pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/cancel"), ("GET", "")])
    def test_the_jobs_that_serve_it_are_nobody_elses_business(
        self, stack: Stack, http: httpx2.Client, run: dict[str, Any], method: str, path: str
    ) -> None:
        job_dir = JobDir(stack.settings.jobs_dir, order_name(run["id"], 1, 0))
        assert job_dir.read_spec().num_rows == 10
        assert http.request(method, f"/v1/jobs/{job_dir.job_id}{path}").status_code == 404
        assert job_dir.spec.exists()

    def test_it_says_how_it_went(self, run: dict[str, Any]) -> None:
        assert (run["status"], run["workflow"], run["error"]) == ("completed", "said-twice", None)
        assert run["counts"] == {"input": 5, "output": 5, "rejected": 0}
        assert run["usage"]["completion_tokens"] > 0
        told = {
            step["id"]: (step["type"], step["state"], step["rows"]["in"], step["rows"]["out"])
            for step in run["steps"]
        }
        assert told == {
            "copy": ("expand", "completed", 5, 10),
            "said": ("generate", "completed", 10, 10),
            "largest": ("reduce", "completed", 10, 5),
            "small": ("filter", "completed", 5, 5),
        }

    def test_its_rows_come_page_by_page(self, http: httpx2.Client, run: dict[str, Any]) -> None:
        first = http.get(f"{RUNS}/{run['id']}/results", params={"limit": 3})
        assert (first.headers["x-next-cursor"], first.headers["x-incomplete"]) == ("3", "false")
        rest = http.get(f"{RUNS}/{run['id']}/results", params={"limit": 3, "after": 3})
        assert "x-next-cursor" not in rest.headers
        found = lines(first) + lines(rest)
        assert [row["said"] for row in found] == [
            {"text": f"t{number}?", "size": number + 1} for number in range(5)
        ]
        assert [row["row_id"] for row in found] == [f"{number}/copy#1" for number in range(5)]

    def test_the_rows_of_a_step(self, http: httpx2.Client, run: dict[str, Any]) -> None:
        found = lines(http.get(f"{RUNS}/{run['id']}/steps/copy/rows"))
        assert [row["copy"]["value"] for row in found] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
        refused = http.get(f"{RUNS}/{run['id']}/steps/nope/rows")
        assert refused.status_code == 400
        assert "copy, said, largest, small" in refused.text

    def test_the_history_of_a_row(self, http: httpx2.Client, run: dict[str, Any]) -> None:
        answer = http.get(f"{RUNS}/{run['id']}/rows", params={"row_id": "2/copy#1"})
        history = {trace["step"]: trace for trace in answer.json()["steps"]}
        assert list(history) == ["copy", "said", "largest", "small"]
        [request], [told] = history["said"]["requests"], history["said"]["answers"]
        assert request["prompt"] == '[[say]]{"text": "t2?", "size": 3}'
        assert told["text"] == '{"text": "t2?", "size": 3}'
        assert history["said"]["value"] == {"text": "t2?", "size": 3}
        missing = http.get(f"{RUNS}/{run['id']}/rows", params={"row_id": "99"})
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "row_not_found"
        became = http.get(f"{RUNS}/{run['id']}/rows", params={"row_id": "2"}).json()["error"]
        assert became["code"] == "row_not_found"
        assert "of that row there are '2/copy#0', '2/copy#1'" in became["message"]

    def test_its_events_end(self, http: httpx2.Client, run: dict[str, Any]) -> None:
        with http.stream("GET", f"{RUNS}/{run['id']}/events") as stream:
            text = stream.read().decode()
        kinds = [line.removeprefix("event: ") for line in text.splitlines() if "event: " in line]
        assert kinds == ["job.status", "done"]

    def test_it_is_listed(self, http: httpx2.Client, run: dict[str, Any]) -> None:
        page = http.get(RUNS, params={"limit": 100}).json()
        assert run["id"] in [each["id"] for each in page["data"]]
        jobs = http.get("/v1/jobs", params={"limit": 100}).json()["data"]
        assert not [job for job in jobs if job["id"].startswith(run["id"])]  # they are its own
        behind = http.get(RUNS, params={"after": page["data"][0]["id"], "limit": 1}).json()["data"]
        assert [each["id"] for each in behind] == [each["id"] for each in page["data"][1:2]]


def test_progress_is_told_while_a_run_goes_on(http: httpx2.Client) -> None:
    run = begin(http)
    all_of_it = {"last-event-id": "0-0"}  # it may have ended before anybody listens
    with http.stream("GET", f"{RUNS}/{run['id']}/events", headers=all_of_it) as stream:
        text = stream.read().decode()
    assert "event: step.progress" in text
    assert text.rstrip().splitlines()[-2] == "event: done"


def test_one_key_makes_one_run(http: httpx2.Client) -> None:
    body = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": rows(1)}}}
    headers = {"idempotency-key": f"once-{time.time_ns()}"}
    first, second = (http.post(RUNS, json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]
    differ = http.post(RUNS, json={**body, "idempotency_key": "another"}, headers=headers)
    assert differ.status_code == 400


def test_a_run_is_paused_resumed_and_cancelled(http: httpx2.Client) -> None:
    run = begin(http, endless(), count=1)
    where = f"{RUNS}/{run['id']}"
    assert http.post(f"{where}/pause").json()["status"] == "paused"
    assert http.get(where).json()["status"] == "paused"
    assert http.post(f"{where}/resume").json()["status"] in ("queued", "running")
    assert http.post(f"{where}/cancel").json()["status"] == "cancelled"
    assert http.post(f"{where}/cancel").json()["status"] == "cancelled"
    assert http.post(f"{where}/resume").json()["status"] == "cancelled"
    assert http.post(f"{where}/pause").status_code == 409
    rest = http.get(f"{where}/results")
    assert rest.content == b""
    assert "x-next-cursor" not in rest.headers


@pytest.mark.parametrize("path", ["", "/results", "/rows?row_id=0", "/events", "/preview", "/plan"])
@pytest.mark.parametrize("run_id", ["run_01M7ZMGJQ45FGXF6PQR53TS3XG", "job_1", "run_..%2F..%2Fx"])
def test_a_run_that_is_not_there(http: httpx2.Client, run_id: str, path: str) -> None:
    answer = http.get(f"{RUNS}/{run_id}{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def upload(http: httpx2.Client, **request: Any) -> httpx2.Response:
    content = b'{"text": "a", "size": 1}\n{"text": "b", "size": 500}\nnothing\n'
    data = {"request": json.dumps({"workflow": WORKFLOW, **request})}
    return http.post(RUNS, data=data, files={"file": ("texts.jsonl", content)})


def test_rows_come_as_an_upload(http: httpx2.Client) -> None:
    run = ended(http, upload(http).json()["id"])
    assert run["counts"] == {"input": 2, "output": 1, "rejected": 1}
    assert run["steps"][-1]["rows"]["dropped"] == 1
    [row] = lines(http.get(f"{RUNS}/{run['id']}/results"))
    assert row["said"] == {"text": "a!", "size": 2}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"upload": "nope"}, "'nope' is no input"),
        ({"inputs": {"texts": {"rows": rows(1)}}}, "none is lacking"),
        ({"inputs": {"texts": {"rows": [], "path": "x"}}}, "one of path, file_id and rows"),
    ],
)
def test_an_upload_that_nobody_wants(
    http: httpx2.Client, request_: dict[str, Any], says: str
) -> None:
    answer = upload(http, **request_)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


BAD: Any = {
    **WORKFLOW,
    "steps": [
        {"id": "a", "type": "generate", "prompt": "{{ row.txet }}", "model": MODEL},
        {"id": "b", "type": "filter", "where": "row.a >"},
        {"id": "c", "type": "map", "set": {"x": "row.nope + 1"}},
    ],
    "output": {"from": "d"},
}


class TestProblems:
    @pytest.mark.parametrize("path", [RUNS, "/v1/workflows/validate", "/v1/workflows/preview"])
    def test_all_are_told_at_once(self, http: httpx2.Client, path: str) -> None:
        body = {"workflow": BAD, "inputs": {"texts": {"rows": rows(1)}}}
        answer = http.post(path, json=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "invalid_workflow"
        assert error["num_errors"] == len(error["errors"]) >= 4
        told = " ".join(f"{each['param']} {each['message']}" for each in error["errors"])
        for part in ("steps.a", "txet", "steps.b", "steps.c", "nope", "output"):
            assert part in told

    def test_unknown_keys_are_refused(self, http: httpx2.Client) -> None:
        answer = http.post("/v1/workflows/validate", json={"workflow": {**WORKFLOW, "stpes": []}})
        assert answer.status_code == 400
        assert "stpes" in answer.text
        answer = http.post("/v1/workflows/validate", json={"workflow": WORKFLOW, "parms": {}})
        assert answer.json()["error"]["code"] == "unknown_parameter"

    def test_a_model_must_be_served(self, http: httpx2.Client) -> None:
        judge = {"id": "j", "type": "judge", "model": "nobody/serves-this", "prompt": "{{ row.x }}"}
        workflow = {**WORKFLOW, "steps": [*WORKFLOW["steps"], judge]}
        for path in (RUNS, "/v1/workflows/validate", "/v1/workflows/preview"):
            body = {"workflow": workflow, "inputs": {"texts": {"rows": rows(1)}}}
            answer = http.post(path, json=body)
            assert answer.status_code == 400
            told = {each["param"]: each["message"] for each in answer.json()["error"]["errors"]}
            assert "steps.j.prompt" in told, path
            if path != RUNS:
                assert "'nobody/serves-this' is not served here; served: " in told["steps.j.model"]
                assert MODEL in told["steps.j.model"]

    def test_shape_and_meaning_are_told_of_in_one_answer(self, http: httpx2.Client) -> None:
        steps = [{"id": "a", "type": "filter", "where": "row.txet", "on_eror": "keep"}]
        body = {
            "workflow": {**WORKFLOW, "steps": steps, "output": {}},
            "params": {"k": 1},
            "inputs": {"texts": {"path": "/no/such/file.jsonl"}},
        }
        for path in (RUNS, "/v1/workflows/validate", "/v1/workflows/plan"):
            error = http.post(path, json=body).json()["error"]
            told = {each["param"] for each in error["errors"]}
            assert told == {"steps.a.on_eror", "steps.a.where", "inputs.texts", "params.k"}, path

    def test_a_run_asks_no_model_that_nobody_serves(self, http: httpx2.Client) -> None:
        steps = [
            {"id": "cell", "type": "expand", "cross": {"model": "{{ params.models }}"}},
            {"id": "said", "type": "generate", "model": "{{ row.model }}", "prompt": "x"},
        ]
        workflow = {"name": "w", "inputs": {"rows": {}}, "params": {"models": ["a"]}}
        body = {
            "workflow": {**workflow, "steps": steps},
            "inputs": {"rows": {"rows": [{"n": 1}]}},
            "params": {"models": ["nobody/serves-this"]},
        }
        answer = http.post("/v1/workflows/runs", json=body)
        assert answer.status_code == 400
        [problem] = answer.json()["error"]["errors"]
        assert problem["param"] == "steps.said.model"
        assert "'nobody/serves-this' is not served here" in problem["message"]

    def test_a_model_must_be_named_where_there_are_several(self, http: httpx2.Client) -> None:
        answer = http.post(
            "/v1/workflows/validate", json={"workflow": {**WORKFLOW, "defaults": {}}}
        )
        assert answer.status_code == 400
        assert IDLE_MODEL in answer.json()["error"]["message"]

    def test_inputs_are_missing_or_unknown(self, http: httpx2.Client) -> None:
        for inputs in ({}, {"texts": {"rows": rows(1)}, "more": {"rows": rows(1)}}):
            answer = http.post(RUNS, json={"workflow": WORKFLOW, "inputs": inputs})
            assert answer.status_code == 400, answer.text


class TestValidate:
    def test_it_tells_what_each_step_does(self, http: httpx2.Client) -> None:
        answer = http.post("/v1/workflows/validate", json={"workflow": WORKFLOW})
        check = answer.json()
        assert check["valid"] is True
        steps = {step["id"]: step for step in check["steps"]}
        assert steps["said"]["models"] == [MODEL]
        assert steps["largest"]["from"] == ["said"]
        assert steps["copy"]["columns"] == {"text": "string", "size": "int64", "copy": "json"}
        assert check["output"]["columns"] == {"text": "string", "said": "json"}

    def test_it_looks_at_the_rows(self, http: httpx2.Client) -> None:
        inputs = {"texts": {"rows": [{"text": "a", "size": "one"}]}}
        body = {"workflow": WORKFLOW, "inputs": inputs}
        answer = http.post("/v1/workflows/validate", json=body)
        assert answer.status_code == 400
        assert "size" in answer.json()["error"]["message"]

    def test_it_warns_of_answers_as_long_as_the_workers_context(self, http: httpx2.Client) -> None:
        copy, said, *others = WORKFLOW["steps"]
        said = {**said, "sampling": {"max_tokens": 100_000}}
        body = {"workflow": {**WORKFLOW, "steps": [copy, said, *others]}}
        [warning] = http.post("/v1/workflows/validate", json=body).json()["warnings"]
        assert warning.startswith("steps.said.sampling.max_tokens=100000 leaves no room")

    def test_without_columns_it_checks_what_it_can(self, http: httpx2.Client) -> None:
        workflow = {**WORKFLOW, "inputs": {"texts": {"type": "dataset"}}}
        check = http.post("/v1/workflows/validate", json={"workflow": workflow}).json()
        assert (check["valid"], check["columns_known"]) == (True, False)
        assert check["warnings"] == ["columns are not checked: no rows are given of texts"]
        bounds = {step["id"]: (step["max"], step["max_children"]) for step in check["steps"]}
        assert bounds["copy"] == (1_000, 1_000)
        assert bounds["said"] == (None, 1)

    def test_the_schema_is_published(self, http: httpx2.Client) -> None:
        schema = http.get("/v1/workflows/schema").json()
        assert "Generate" in schema["$defs"]
        assert schema["$defs"]["Generate"]["properties"]["type"] == {"enum": ["generate"]}


class TestKept:
    def named(self, name: str, where: str = "row.said.size < 100") -> dict[str, Any]:
        steps = [*WORKFLOW["steps"][:-1], {"id": "small", "type": "filter", "where": where}]
        return {**WORKFLOW, "name": name, "steps": steps}

    def test_each_change_is_a_version(self, http: httpx2.Client) -> None:
        first, second = self.named("kept"), self.named("kept", "row.said.size < 2")
        versions = [
            http.post("/v1/workflows", json={"workflow": each}).json()["version"]
            for each in (first, first, second)
        ]
        assert versions == [1, 1, 2]
        assert http.get("/v1/workflows/kept").json()["workflow"] == second
        assert http.get("/v1/workflows/kept", params={"version": 1}).json()["workflow"] == first
        newest = {
            each["name"]: each["version"] for each in http.get("/v1/workflows").json()["data"]
        }
        assert newest["kept"] == 2

    def test_it_runs_by_its_name(self, http: httpx2.Client) -> None:
        http.post("/v1/workflows", json={"workflow": self.named("by-name")})
        http.post("/v1/workflows", json={"workflow": self.named("by-name", "row.said.size < 2")})
        counts = [
            ended(http, begin(http, "by-name", version=version)["id"])["counts"]["output"]
            for version in (1, 2)
        ]
        assert counts == [3, 1]

    @pytest.mark.parametrize(
        ("name", "query"), [("nope", ""), ("..%2Fkeys", ""), ("by-name", "?version=77")]
    )
    def test_what_is_not_kept(self, http: httpx2.Client, name: str, query: str) -> None:
        answer = http.get(f"/v1/workflows/{name}{query}")
        assert answer.status_code == 404

    @pytest.mark.parametrize("name", ["runs", "schema", "preview"])
    def test_names_of_our_own(self, http: httpx2.Client, name: str) -> None:
        answer = http.post("/v1/workflows", json={"workflow": self.named(name)})
        assert answer.status_code == 400

    def test_what_is_wrong_is_not_kept(self, http: httpx2.Client) -> None:
        workflow = self.named("bad", "row.said.size <")
        assert http.post("/v1/workflows", json={"workflow": workflow}).status_code == 400
        assert http.get("/v1/workflows/bad").status_code == 404
