"""The pages as they are served, and what the API tells them beside what it tells everybody."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api.job_timeline import eta_band_s, timeline_object
from penstock.api.run_graph import OUTPUT
from penstock.api.web_pages import FOLDER, composed
from penstock.jobs.timeline import Moment, Timeline

from .conftest import MODEL, Stack
from .plain_jobs import rows, submit, three_shards, wait
from .plain_workflows import WORKFLOW, rows as texts, wait as wait_for_run

PAGES = ["/ui", "/ui/jobs/job_00000000000000000000000000", "/ui/runs/run_1"]


@pytest.fixture(scope="module")
def finished(stack: Stack) -> dict[str, Any]:
    with stack.http() as http:
        return three_shards(http)


class TestServing:
    @pytest.mark.parametrize("path", PAGES)
    def test_a_page_runs_nothing_but_its_own_scripts(self, http: httpx2.Client, path: str) -> None:
        answer = http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        for word in ("object-src", "base-uri", "form-action", "frame-ancestors"):
            assert f"{word} 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        for name in re.findall(r'(?:src|href)="(/ui/assets/[^"]+)"', answer.text):
            assert http.get(name).status_code == 200

    @pytest.mark.parametrize("name", ["job", "missing", "overview", "run"])
    def test_a_page_is_put_together_once(self, name: str) -> None:
        page = composed()[name]
        for part in ("<!doctype html>", "<title>", '<header class="bar">', '<main id="main"'):
            assert page.count(part) == 1, part
        assert page.index("<title>") < page.index("</head>") < page.index("<main")
        assert "${" not in page
        assert page.count("<script ") == page.count("<noscript") == (name != "missing")

    def test_the_front_door_leads_to_the_overview(self, http: httpx2.Client) -> None:
        answer = http.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "/ui")
        assert http.get("/ui/").headers["location"] == "/ui"

    def test_a_wrong_address_leads_there_too(self, http: httpx2.Client) -> None:
        answer = http.get("/ui/xyz/1")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
            404,
            "text/html",
        )
        assert 'href="/ui"' in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")

    def test_what_has_not_changed_is_not_sent_again(self, http: httpx2.Client) -> None:
        first = http.get("/ui/assets/job.js")
        again = http.get("/ui/assets/job.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    @pytest.mark.parametrize(
        "path", ["/ui/assets/overview.html", "/ui/_layout", "/ui/assets/..%2f..%2fapp.py"]
    )
    def test_nothing_else_is_served(self, http: httpx2.Client, path: str) -> None:
        assert http.get(path).status_code == 404

    @pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
    def test_no_file_loads_from_elsewhere_or_takes_markup(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"https?://[\w$]", text)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=\"|style=\"", text)


class TestTimeline:
    def test_tells_all_rows_of_a_job(self, http: httpx2.Client, finished: dict[str, Any]) -> None:
        told = http.get(f"/v1/jobs/{finished['id']}/timeline", params={"points": 10}).json()
        points = told["points"]
        assert 0 < len(points) <= 10
        assert sum(point["rows"] for point in points) == 150
        tokens = sum(point["tokens_per_s"] * told["step_s"] for point in points)
        assert tokens == pytest.approx(finished["usage"]["completion_tokens"], rel=1e-3)
        assert told["sample"] == {"parts": 3, "of_parts": 3, "rows": 150, "of_rows": 150}
        [worker] = told["workers"]
        assert worker["rows"] == 150
        assert told["eta"] is None

    def test_says_how_many_points_there_may_be(
        self, http: httpx2.Client, finished: dict[str, Any]
    ) -> None:
        path = f"/v1/jobs/{finished['id']}/timeline"
        assert http.get(path, params={"points": 241}).status_code == 400

    def test_time_left_lies_between_the_best_and_the_worst_of_late(self) -> None:
        speeds = [1, 2, 9, 9, 9, 3, 3, 3, 0]
        moments = [Moment(at_ms=1000 * n, step_ms=1000, rows=s) for n, s in enumerate(speeds)]
        assert eta_band_s(moments, 90) == (10.0, 30.0)
        assert eta_band_s(moments, 0) is None
        assert eta_band_s(moments[:4], 90) is None
        assert eta_band_s([Moment(0, 1000)] * 9, 90) is None

    @pytest.mark.parametrize(
        ("estimate_s", "low_s", "high_s"),
        [(None, 10.0, 30.0), (8.0, 8.0, 30.0), (31.0, 10.0, 31.0)],
    )
    def test_the_estimate_lies_within_its_band(
        self, estimate_s: float | None, low_s: float, high_s: float
    ) -> None:
        speeds = [9, 9, 9, 3, 3, 3, 0]
        moments = tuple(Moment(1000 * n, 1000, rows=speed) for n, speed in enumerate(speeds))
        timeline = Timeline(step_ms=1000, moments=moments)
        told = timeline_object("job_1", timeline, 90, estimate_s)["eta"]
        assert told == {"estimate_s": estimate_s, "low_s": low_s, "high_s": high_s}

    def test_a_job_of_which_nothing_has_landed_has_no_points(self) -> None:
        told = timeline_object("job_1", Timeline(step_ms=100), 5)
        assert (told["points"], told["workers"], told["eta"]) == ([], [], None)


def test_a_job_tells_what_it_was_told_to_do(http: httpx2.Client, finished: dict[str, Any]) -> None:
    task = http.get(f"/v1/jobs/{finished['id']}/task").json()
    assert (task["model"], task["prompt"]) == (MODEL, "Say {{ row.text }}")
    assert task["columns"] == {"key": "string", "text": "string"}
    assert task["shards"] == {"total": 3, "rows": 64}


def test_the_manifest_is_there_when_all_rows_are(
    http: httpx2.Client, finished: dict[str, Any]
) -> None:
    manifest = http.get(f"/v1/jobs/{finished['id']}/manifest")
    assert manifest.json()["counts"]["total"] == 150
    assert "attachment" in manifest.headers["content-disposition"]
    job = submit(http, input={"rows": [*rows(1), {"key": "k", "text": "[[long]]"}]})
    early = http.get(f"/v1/jobs/{job['id']}/manifest")
    assert (early.status_code, early.json()["error"]["code"]) == (404, "no_manifest")
    http.post(f"/v1/jobs/{job['id']}/cancel")
    wait(http, job["id"])


def test_a_caller_is_told_who_it_is(http: httpx2.Client) -> None:
    me = http.get("/v1/me").json()
    assert (me["tenant"], me["scopes"]) == ("default", ["admin", "read", "submit"])


class TestGraph:
    def test_leads_from_inputs_over_steps_to_the_output(self, http: httpx2.Client) -> None:
        body = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": texts(2)}}}
        run = http.post("/v1/workflows/runs", json=body).json()
        graph = http.get(f"/v1/workflows/runs/{run['id']}/graph").json()
        assert [node["id"] for node in graph["nodes"]] == [
            "inputs.texts", "copy", "said", "largest", "small", OUTPUT,
        ]  # fmt: skip
        assert [(edge["from"], edge["to"]) for edge in graph["edges"]] == [
            ("inputs.texts", "copy"),
            ("copy", "said"),
            ("said", "largest"),  # without the step that the plan puts between
            ("largest", "small"),
            ("small", OUTPUT),
        ]
        assert {node["type"] for node in graph["nodes"] if node["kind"] == "step"} == {
            "expand", "generate", "reduce", "filter",
        }  # fmt: skip
        wait_for_run(http, run["id"])

    def test_runs_are_listed_by_state(self, http: httpx2.Client) -> None:
        body = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": texts(1)}}}
        run = http.post("/v1/workflows/runs", json=body).json()
        assert wait_for_run(http, run["id"])["status"] == "completed"

        def listed(*states: str) -> list[str]:
            params = {"status": list(states), "limit": 100}
            page = http.get("/v1/workflows/runs", params=params).json()
            return [each["id"] for each in page["data"]]

        assert run["id"] in listed("paused", "completed")
        assert run["id"] not in listed("paused")

    def test_of_an_unknown_run_there_is_none(self, http: httpx2.Client) -> None:
        assert http.get("/v1/workflows/runs/run_1/graph").status_code == 404
