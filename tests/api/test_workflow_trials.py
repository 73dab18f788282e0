"""What a few rows tell: previews, plans, and the figures that a sample gives for all rows."""

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from penstock.api.workflow_estimate import Band, StepEstimate, estimate, spread_of
from penstock.jobs.workflow.checks.check import check, read_workflow
from penstock.jobs.workflow.plan import Plan
from penstock.jobs.workflow.runs.report import StepProgress

from .conftest import MODEL
from .plain_workflows import WORKFLOW, rows

RUNS = "/v1/workflows/runs"


def test_a_preview_shows_the_first_rows_through_every_step(http: httpx2.Client) -> None:
    body = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": rows(50)}}, "rows": 2, "wait": 60}
    found: dict[str, Any] = {}
    for _ in range(2):  # the second time, too: nothing comes from a cache
        found = http.post("/v1/workflows/preview", json=body, timeout=90).json()
        assert found["complete"] is True
        assert found["run"]["is_preview"] is True
        assert {step["rows"]["cached"] for step in found["run"]["steps"]} == {0}
        steps = {step["id"]: step["rows"] for step in found["steps"]}
        assert [len(steps[step]) for step in ("copy", "said", "largest", "small")] == [4, 4, 2, 2]
        [request], [answer] = steps["said"][3]["requests"], steps["said"][3]["answers"]
        assert answer["text"] == '{"text": "t1!", "size": 2}'
        assert request["prompt"] == '[[say]]{"text": "t1!", "size": 2}'
        assert steps["said"][3]["value"] == {"text": "t1!", "size": 2}
    again = http.get(f"{RUNS}/{found['run']['id']}/preview").json()
    assert again["steps"] == found["steps"]


def test_only_a_preview_is_shown_as_one(http: httpx2.Client) -> None:
    body = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": rows(1)}}}
    run = http.post(RUNS, json=body).json()["id"]
    answer = http.get(f"{RUNS}/{run}/preview")
    assert answer.status_code == 409
    assert "is no preview" in answer.json()["error"]["message"]


def test_a_plan_tells_of_all_rows(http: httpx2.Client) -> None:
    inputs = {"texts": {"rows": rows(40)}}
    body = {"workflow": WORKFLOW, "inputs": inputs, "num_rows": {"texts": 10_000}, "wait": 60}
    found = http.post("/v1/workflows/plan", json=body, timeout=90).json()
    assert found["complete"] is True
    assert found["sample_rows"] == 16
    steps = {step["id"]: step for step in found["steps"]}
    assert steps["said"]["rows_out"] == {"estimate": 20_000, "low": 20_000, "high": 20_000}
    assert steps["said"]["completion_tokens"]["estimate"] > 100_000
    assert steps["largest"]["rows_out"]["estimate"] == 10_000
    assert found["total"]["seconds"]["estimate"] > 0
    assert "measured on this installation" in found["rests_on"][1]
    assert "a sample of 16 rows" in found["rests_on"][0]
    again = http.get(f"{RUNS}/{found['run']['id']}/plan", params={"num_rows": "texts=20000"}).json()
    assert again["steps"][0]["rows_out"]["estimate"] == 40_000


@pytest.mark.parametrize("num_rows", ["texts", "texts=-1", "nope=3", "=3"])
def test_a_plan_for_what_is_no_count(http: httpx2.Client, num_rows: str) -> None:
    body = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": rows(1)}}, "wait": 0}
    run = http.post("/v1/workflows/plan", json=body).json()["run"]["id"]
    answer = http.get(f"{RUNS}/{run}/plan", params={"num_rows": num_rows})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in (None, "num_rows")


def planned(*steps: Mapping[str, Any]) -> Plan:
    document = {**WORKFLOW, "steps": list(steps), "output": {}}
    columns = {"texts": {"text": "string", "size": "int64"}}
    return check(read_workflow(document), {}, columns)  # pyright: ignore[reportArgumentType]


def seen(step: str, rows_in: int, rows_out: int, tokens: int = 0) -> dict[str, StepProgress]:
    return {
        step: StepProgress(
            step, "x", "completed", rows_in=rows_in, rows_out=rows_out, completion_tokens=tokens
        )
    }


def only(plan: Plan, sampled: dict[str, StepProgress], num_rows: int = 1_000) -> StepEstimate:
    return estimate(plan, sampled, {"texts": num_rows}, {MODEL: 50.0})[-1]


class TestEstimate:
    def test_a_filter_lets_through_what_it_did_of_the_sample(self) -> None:
        plan = planned({"id": "f", "type": "filter", "where": "row.size > 1"})
        found = only(plan, seen("f", 16, 4))
        assert found.rows_out.estimate == 250
        assert 0 < found.rows_out.low < 250 < found.rows_out.high < 1_000

    def test_a_larger_sample_gives_a_narrower_band(self) -> None:
        plan = planned({"id": "f", "type": "filter", "where": "row.size > 1"})
        small, large = only(plan, seen("f", 16, 4)), only(plan, seen("f", 1_600, 400))
        assert (
            large.rows_out.high - large.rows_out.low
            < (small.rows_out.high - small.rows_out.low) / 5
        )

    def test_nothing_goes_beyond_what_is_allowed(self) -> None:
        plan = planned({"id": "x", "type": "expand", "explode": "[1, 2, row.size]", "max": 4})
        found = only(plan, seen("x", 10, 30))
        assert found.at_most == 4_000
        assert found.rows_out.estimate == 3_000
        assert found.rows_out.high == 4_000

    def test_what_always_has_as_many_children_is_known_better(self) -> None:
        plan = planned({"id": "x", "type": "expand", "explode": "[1, 2, row.size]", "max": 9})
        assert (spread_of(["0", "0", "1", "1"]), spread_of(["0", "1", "1", "1"])) == (0, 0.5)
        found = estimate(plan, seen("x", 2, 4), {"texts": 100}, {}, {"x": 0.0})[-1]
        assert found.rows_out == Band(200, 200, 200)

    @pytest.mark.parametrize(("group_by", "likely"), [("parent", 250), (["text"], 4)])
    def test_a_group_is_asked_about_once(self, group_by: Any, likely: int) -> None:
        plan = planned(
            {"id": "x", "type": "expand", "explode": "[1, 2, row.size]", "max": 4},
            {"id": "g", "type": "reduce", "group_by": group_by, "prompt": "{{ rows[0].text }}"},
        )
        sampled = {**seen("x", 4, 16), **seen("g", 4, 4, tokens=40)}
        found = estimate(plan, sampled, {"texts": 250}, {MODEL: 50.0}, {"x": 0.0})[-1]
        assert found.rows_in.estimate == found.rows_out.estimate == likely
        assert found.completion_tokens.estimate == 10 * likely

    def test_limits_are_limits(self) -> None:
        plan = planned({"id": "l", "type": "limit", "size": 7})
        assert only(plan, seen("l", 7, 7)).rows_out.estimate == 7
        assert only(plan, seen("l", 7, 7), 5).rows_out.estimate == 5

    def test_a_share_is_what_was_asked_for(self) -> None:
        plan = planned({"id": "s", "type": "sample", "fraction": 0.1})
        assert only(plan, seen("s", 16, 0)).rows_out.estimate == pytest.approx(100)

    def test_how_many_keys_there_are_a_sample_does_not_tell(self) -> None:
        plan = planned({"id": "d", "type": "dedupe", "key": "{{ row.text }}"})
        found = only(plan, seen("d", 16, 3))
        assert (found.rows_out.low, found.rows_out.high) == (3, 1_000)

    def test_what_the_sample_has_not_reached_is_open(self) -> None:
        plan = planned(
            {"id": "f", "type": "filter", "where": "row.size > 1"},
            {"id": "g", "type": "generate", "prompt": "{{ row.text }}"},
        )
        found = only(plan, {**seen("f", 16, 0), **seen("g", 0, 0)})
        assert found.rows_out.estimate == 0
        assert found.rows_out.low == 0

    def test_time_follows_from_tokens(self) -> None:
        plan = planned({"id": "g", "type": "generate", "prompt": "{{ row.text }}"})
        found = only(plan, seen("g", 16, 16, tokens=160))
        assert found.completion_tokens.estimate == 10_000
        assert found.seconds is not None
        assert found.seconds.estimate == pytest.approx(200)
        assert found.seconds.low < 200 < found.seconds.high
        silent = estimate(plan, seen("g", 16, 16, tokens=160), {"texts": 1_000}, {})[-1]
        assert silent.seconds is None
