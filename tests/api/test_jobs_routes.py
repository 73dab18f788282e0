"""Jobs over HTTP: submitted as JSON and as a path, listed, paged, cancelled, and found damaged."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.jobs.fake_engine import expected_text
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_jobs import TASK, results, rows, submit, three_shards, wait

NUM_TOKENS = 8


@pytest.fixture(scope="module")
def finished(stack: Stack) -> dict[str, Any]:
    with stack.http() as http:
        return three_shards(http)


def test_rows_in_the_request_become_rows_of_the_result(
    http: httpx2.Client, finished: dict[str, Any], stack: Stack
) -> None:
    assert finished["object"] == "job"
    assert finished["status"] == "completed"
    assert finished["name"] == "three shards"
    assert finished["model"] == MODEL
    assert finished["metadata"] == {"team": "a"}
    assert finished["counts"] == {
        "total": 150, "pending": 0, "running": 0, "succeeded": 150, "failed": 0, "rejected": 0,
        "not_run": 0,
        "unparsed": 0,
    }  # fmt: skip
    assert finished["usage"]["completion_tokens"] == 150 * NUM_TOKENS
    assert finished["rate"]["rows_per_s"] > 0
    assert finished["eta_s"] is None
    assert finished["created_at"] <= finished["started_at"] <= finished["finished_at"]
    assert finished["output"] == {"path": f"{stack.settings.data_dir}/results/{finished['id']}"}
    assert len(list(Path(finished["output"]["path"]).glob("rows/*.parquet"))) == 3
    got = results(http, finished["id"])
    assert [row["row_index"] for row in got] == list(range(150))
    assert [row["custom_id"] for row in got] == [f"k{index}" for index in range(150)]
    assert got[149]["text"] == "t149"
    assert got[149]["output"] == expected_text("Say t149", num_tokens=NUM_TOKENS)


def test_a_path_on_the_server(http: httpx2.Client, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nx\ny\n")
    job = submit(http, input={"path": str(tmp_path / "in.csv")}, output={"path": str(tmp_path)})
    wait(http, job["id"])
    assert len(results(http, job["id"])) == 2
    assert (tmp_path / job["id"] / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": {}}, "input"),
        ({"input": {"path": "/etc/hostname", "rows": [{}]}}, "input"),
        ({"input": {"path": "/no/such/file.jsonl"}}, "input"),
        ({"input": {"path": "a\0b.jsonl"}}, "input"),
        ({"input": {"rows": [{"text": 1}]}, "output": {"path": "a\0b"}}, "output"),
        ({"input": {"rows": []}}, None),
        ({"input": {"rows": [1]}}, "input.rows.0"),
        ({"input": {"rows": [{"text": 1}]}, "prompt": "{{ row.txt }}"}, "prompt"),
        ({"input": {"rows": [{"text": 1}]}, "prompt": "{{ row.text "}, "prompt"),
        ({"input": {"rows": [{"text": 1}]}, "id": "nope"}, "id"),
        ({"input": {"rows": [{"text": 1}]}, "messages": []}, "messages"),
        (
            {"input": {"rows": [{"text": 1}]}, "messages": [{"role": "user", "content": "x"}]},
            "messages",
        ),
        ({"input": {"rows": [{"text": 1}]}, "sampling": {"temperature": -1}}, "temperature"),
        ({"input": {"rows": [{"text": 1}]}, "sampling": {"temprature": 1}}, "temprature"),
        ({"input": {"rows": [{"text": 1}]}, "priority": 101}, "priority"),
        ({"input": {"rows": [{"text": 1}]}, "metadata": {"k": 1}}, "metadata.k"),
        ({"input": {"rows": [{"text": 1}]}, "webhook": "http://127.0.0.1"}, "webhook"),
        ({"input": {"rows": [{"text": 1}]}, "format": "xml"}, "format"),
    ],
)
def test_a_job_that_cannot_run_is_refused(
    http: httpx2.Client, stack: Stack, body: dict[str, Any], param: str | None
) -> None:
    before = set(stack.settings.jobs_dir.glob("*"))
    answer = http.post("/v1/jobs", json={**TASK, **body})
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    if param is not None:
        assert error["param"] == param, error
    assert set(stack.settings.jobs_dir.glob("*")) <= before


def test_an_unknown_model_and_no_model(http: httpx2.Client) -> None:
    body = {"input": {"rows": [{"a": 1}]}, "prompt": "{{ row.a }}"}
    unknown = http.post("/v1/jobs", json={**body, "model": "gpt-none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    unnamed = http.post("/v1/jobs", json=body)
    assert unnamed.status_code == 400
    assert MODEL in unnamed.json()["error"]["message"]


@pytest.mark.parametrize("as_header", [True, False])
def test_the_same_key_never_makes_a_second_job(http: httpx2.Client, as_header: bool) -> None:
    key = f"once-{as_header}-{time.monotonic_ns()}"
    body = {**TASK, "input": {"rows": rows(1)}} | ({} if as_header else {"idempotency_key": key})
    headers = {"idempotency-key": key} if as_header else {}
    first, second = (http.post("/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    other = http.post(
        "/v1/jobs", json={**body, "idempotency_key": "a"}, headers={"idempotency-key": "b"}
    )
    assert other.status_code == 400


def test_jobs_are_listed_newest_first_and_paged(
    http: httpx2.Client, finished: dict[str, Any]
) -> None:
    ids = [submit(http, input={"rows": rows(1)})["id"] for _ in range(3)]
    page = http.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in page["data"]] == [ids[2], ids[1]]
    assert page["has_more"]
    assert (page["first_id"], page["last_id"]) == (ids[2], ids[1])
    following = http.get("/v1/jobs", params={"limit": 1, "after": ids[1]}).json()
    assert following["data"][0]["id"] == ids[0]
    for job_id in ids:
        wait(http, job_id)
    seen = [job["id"] for job in page["data"]]
    while page["has_more"]:
        page = http.get("/v1/jobs", params={"limit": 50, "after": seen[-1]}).json()
        seen += [job["id"] for job in page["data"]]
    assert seen.count(finished["id"]) == 1
    assert len({*seen}) == len(seen)


def test_results_page_by_page(http: httpx2.Client, finished: dict[str, Any]) -> None:
    path, got, cursor = f"/v1/jobs/{finished['id']}/results", [], None
    for _ in range(10):
        params: dict[str, Any] = {"limit": 40} | ({"after": cursor} if cursor else {})
        answer = http.get(path, params=params)
        page = [json.loads(line)["row_index"] for line in answer.content.splitlines()]
        assert len(page) <= 40
        assert answer.headers["x-incomplete"] == "false"
        got += page
        cursor = answer.headers.get("x-next-cursor")
        if cursor is None:
            break
    assert got == list(range(150))
    as_json = http.get(path, params={"limit": 5, "format": "json"}).json()
    assert [row["row_index"] for row in as_json["data"]] == [0, 1, 2, 3, 4]
    assert as_json["has_more"]
    assert http.get(path, params={"after": "junk"}).status_code == 400


def test_cancel_stops_a_job_and_keeps_what_landed(http: httpx2.Client) -> None:
    endless = [{"text": f"[[long]] {index}"} for index in range(100)]
    job = submit(http, input={"rows": endless})
    wait_for(lambda: http.get(f"/v1/jobs/{job['id']}").json()["counts"]["running"], "a row to run")
    running = http.get(f"/v1/jobs/{job['id']}/results", params={"limit": 10})
    assert (running.content, running.headers["x-incomplete"]) == (b"", "true")
    cancelled = http.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"

    def is_idle() -> bool:
        workers = http.get("/v1/workers").json()["data"]
        return not any(worker["running_rows"] for worker in workers)

    wait_for(is_idle, "the engine to stop rows of a cancelled job")


def test_a_long_poll_ends_when_nothing_changes(http: httpx2.Client) -> None:
    job = submit(http, model=IDLE_MODEL, input={"rows": rows(1)})
    started_s = time.monotonic()
    path = f"/v1/jobs/{job['id']}"
    assert http.get(path, params={"wait": 0.6}).json()["status"] == "queued"
    assert time.monotonic() - started_s > 0.5
    http.post(f"{path}/cancel")


@pytest.mark.parametrize(
    ("is_gone", "status", "code"), [(True, 410, "job_gone"), (False, 500, "job_damaged")]
)
def test_a_job_whose_directory_is_lost_hides_no_other_and_can_be_cancelled(
    http: httpx2.Client, stack: Stack, is_gone: bool, status: int, code: str
) -> None:
    good = submit(http, model=IDLE_MODEL, input={"rows": rows(1)})
    bad = submit(http, model=IDLE_MODEL, input={"rows": rows(1)}, metadata={"a": "b"})
    job_dir = stack.settings.jobs_dir / bad["id"]
    if is_gone:
        shutil.rmtree(job_dir)
    else:
        (job_dir / "job.json").write_text("{")
    listed = {job["id"]: job for job in http.get("/v1/jobs").json()["data"]}
    assert listed[good["id"]]["error"] is None
    assert str(job_dir.name) in listed[bad["id"]]["error"]
    assert http.get(f"/v1/jobs/{bad['id']}").json() == listed[bad["id"]]
    for path in ("results", "errors"):
        answer = http.get(f"/v1/jobs/{bad['id']}/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    for job in (good, bad):
        assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"


def test_a_lost_part_is_told_and_where_nothing_failed_no_part_is_read(http: httpx2.Client) -> None:
    job = wait(http, submit(http, input={"rows": rows(2)})["id"])
    Path(job["output"]["path"], "rows", "part-000000.parquet").unlink()
    lost = http.get(f"/v1/jobs/{job['id']}/results")
    assert (lost.status_code, lost.json()["error"]["code"]) == (500, "job_damaged")
    assert "part-000000.parquet" in lost.json()["error"]["message"]
    assert results(http, job["id"], status="failed") == []
    assert http.get(f"/v1/jobs/{job['id']}/errors").json()["data"] == []


def test_the_list_of_jobs_in_some_states(http: httpx2.Client, finished: dict[str, Any]) -> None:
    waiting = submit(http, input={"rows": rows(1)}, model=IDLE_MODEL)["id"]
    failing = wait(http, submit(http, input={"rows": [{"text": "[[fail]]"}]})["id"])["id"]

    def listed(*status: str, **params: Any) -> list[str]:
        answer = http.get("/v1/jobs", params={"status": list(status), "limit": 100, **params})
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["data"]]

    try:
        assert waiting in listed("queued")
        assert finished["id"] not in listed("queued", "running")
        ended = listed("completed", "completed_with_errors")
        assert ended.index(failing) < ended.index(finished["id"])  # newest first
        assert waiting not in ended
        assert failing not in listed("completed")
        assert finished["id"] in listed("completed", after=failing)
    finally:
        http.post(f"/v1/jobs/{waiting}/cancel")
    answer = http.get("/v1/jobs", params={"status": "sleeping"})
    assert answer.status_code == 400
    assert "status" in answer.json()["error"]["message"]
