"""The page of a run: its graph, its steps, their rows, and the history of one row."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.browser import open_browser

from .conftest import MODEL, Stack
from .page_reader import NARROW, Reader, reading
from .plain_workflows import WORKFLOW, endless, rows


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, stack: Stack) -> Iterator[Reader]:
    with reading(browser, stack.url) as reader:
        yield reader


def begin(http: httpx2.Client, workflow: dict[str, Any], count: int, **more: Any) -> str:
    body = {"workflow": workflow, "inputs": {"texts": {"rows": rows(count)}}, **more}
    answer = http.post("/v1/workflows/runs", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_a_run_is_drawn_and_followed_to_its_end(
    reader: Reader, http: httpx2.Client, tmp_path: Path
) -> None:
    run_id = begin(http, WORKFLOW, 6, name="<b>six</b> texts")
    page = reader.open(f"/ui/runs/{run_id}")
    reader.mark()
    expect(page.locator("#state")).to_have_text("completed")
    reader.check_not_reloaded()
    expect(page.locator("#name")).to_have_text("<b>six</b> texts")
    nodes = page.locator("#graph .node")
    expect(nodes).to_have_count(6)
    expect(page.locator("#graph .edge")).to_have_count(5)
    for step in ("copy", "said", "largest", "small"):
        node = page.locator(f"#graph [data-node={step}]")
        expect(node).to_have_attribute("data-state", "completed")
    places = [nodes.nth(place).bounding_box() for place in range(6)]
    lefts = [box["x"] for box in places if box is not None]
    assert len(lefts) == 6
    assert lefts == sorted(set(lefts))  # from left to right, none above another
    line = page.locator("#steps tbody tr", has_text="said")
    expect(line).to_contain_text("generate")
    expect(line.locator("td").nth(4)).to_have_text("12")
    expect(page.locator("#rows details")).to_have_count(6)  # of the output
    reader.check_fits_everywhere(tmp_path, "run")
    page.set_viewport_size(NARROW)
    expect(line.locator("[data-label=Out]")).to_be_visible()
    expect(line.locator("[data-label=Failed]")).to_be_hidden()


def test_rows_of_a_step_lead_to_their_history(reader: Reader, http: httpx2.Client) -> None:
    run_id = begin(http, WORKFLOW, 2)
    http.get(f"/v1/workflows/runs/{run_id}", params={"wait": 30})
    page = reader.open(f"/ui/runs/{run_id}")
    expect(page.locator("#state")).to_have_text("completed")
    page.locator("#graph [data-node=said]").press("Enter")
    expect(page.locator("#rows-filter [aria-pressed=true]")).to_have_text("said")
    lines = page.locator("#rows details")
    expect(lines).to_have_count(4)
    expect(page.locator("#graph .chosen .label")).to_have_text("said")
    lines.nth(1).locator("summary").click()
    lines.nth(1).get_by_role("button", name="Its history").click()
    history = page.locator("#history section")
    expect(history.filter(has_text="said · 0/copy#1")).to_contain_text("asked")
    expect(history.filter(has_text="said · 0/copy#1")).to_contain_text("t0!")
    expect(page).to_have_url(re.compile(r"\?rows=said&row=0%2Fcopy%231$"))
    page.reload()
    expect(lines).to_have_count(4)
    expect(page.locator("#graph .chosen .label")).to_have_text("said")
    expect(history.filter(has_text="said · 0/copy#1")).to_contain_text("t0!")
    page.get_by_label("Row id").fill("no/such#row")
    page.get_by_role("button", name="Tell").click()
    expect(page.locator("#history")).to_contain_text("has no row")


def test_a_run_is_paused_resumed_and_cancelled(reader: Reader, http: httpx2.Client) -> None:
    run_id = begin(http, endless(), 3)
    page = reader.open("/ui")
    page.locator("#runs tbody tr", has_text=run_id).get_by_role("link").click()
    page.wait_for_url(f"**/ui/runs/{run_id}")
    said = page.locator("#graph [data-node=say]")
    expect(said).to_have_attribute("data-state", "running")
    state, acts = page.locator("#state"), page.locator("#acts")
    for verb, becomes in (("Pause", "paused"), ("Resume", "running"), ("Cancel run", "cancelled")):
        acts.get_by_role("button", name=verb).click()
        page.get_by_role("dialog").get_by_role("button", name=verb).click()
        expect(state).to_have_text(becomes)
    http.get(f"/v1/workflows/runs/{run_id}", params={"wait": 30})


def test_a_graph_with_branches_has_layers(reader: Reader, http: httpx2.Client) -> None:
    def say(step: str, source: str) -> dict[str, Any]:
        return {"id": step, "type": "generate", "from": source, "prompt": "Say {{ row.text }}"}

    steps = [say("left", "inputs.texts"), say("right", "inputs.texts")]
    join = {"id": "both", "type": "join", "from": ["left", "right"]}
    workflow = {**WORKFLOW, "name": "branches", "steps": [*steps, join], "output": {}}
    run_id = begin(http, workflow, 2)
    page = reader.open(f"/ui/runs/{run_id}")
    expect(page.locator("#state")).to_have_text("completed")  # from then on nothing moves
    expect(page.locator("#graph .node")).to_have_count(5)
    boxes = {
        name: page.locator(f"#graph [data-node={name}]").bounding_box()
        for name in ("left", "right", "both")
    }
    left, right, both = boxes["left"], boxes["right"], boxes["both"]
    assert left is not None
    assert right is not None
    assert both is not None
    assert left["x"] == pytest.approx(right["x"], abs=2)  # what runs has a thicker line
    assert both["x"] > left["x"] + left["width"]
    assert abs(left["y"] - right["y"]) > left["height"]
    assert MODEL in page.locator("#steps").inner_text()
