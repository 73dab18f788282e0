"""Dashboard, rules and scrape: every expression parses and asks for what a real API tells."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from penstock.api.live_metrics import LiveMetrics

from .promql import answered, is_told_once, parse, uses

ROOT = Path(__file__).resolve().parents[2] / "api/dashboards"
PROMETHEUS = ROOT / "prometheus"
BOARD: dict[str, Any] = json.loads((ROOT / "grafana/boards/penstock.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")
PROMETHEUS_OWN = {"up": frozenset[str](), "ALERTS": frozenset({"alertname", "alertstate"})}
PROMETHEUS_OWN["ALERTS"] |= {"severity"}


def rules_in(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED, ALERTS = rules_in("recording.yml"), rules_in("alerts.yml")
BOARD_EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [
    *(rule["expr"] for rule in [*RECORDED, *ALERTS]),
    *BOARD_EXPRESSIONS,
    *(each["expr"] for each in BOARD["annotations"]["list"]),
]


@pytest.fixture(scope="module")
def known(api: str) -> dict[str, frozenset[str]]:
    """The labels of every series: those of a real API, and those that rules record."""
    labels: dict[str, frozenset[str]] = dict(PROMETHEUS_OWN)
    for family in text_string_to_metric_families(httpx2.get(f"{api}/metrics", timeout=60).text):
        for sample in family.samples:
            labels[sample.name] = labels.get(sample.name, frozenset()) | sample.labels.keys()
    for rule in RECORDED:  # in their order, as Prometheus takes them
        labels[rule["record"]] = answered(parse(rule["expr"]), labels)
    return labels


def test_a_metric_is_told_in_one_place(api: str) -> None:
    """Prometheus forgives what the parser of KEDA and of others does not."""
    lines = httpx2.get(f"{api}/metrics", timeout=60).text.splitlines()
    types = Counter(line.split()[2] for line in lines if line.startswith("# TYPE "))
    assert [name for name, times in types.items() if times > 1] == []


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_asks_for_what_is_there(text: str, known: dict[str, frozenset[str]]) -> None:
    expression = parse(text)
    for use in uses(expression):
        assert use.metric in known, f"nobody tells {use.metric}"
        assert use.labels <= known[use.metric] | {"instance", "job"}, use
    answered(expression, known)


def test_what_every_process_of_the_api_tells_is_not_added_up(
    known: dict[str, frozenset[str]],
) -> None:
    described = (Path(__file__).resolve().parents[2] / "api/live_metrics.py").read_text()
    shared = set(re.findall(r'"(penstock_\w+)"', described)) - {"penstock_build_info"}
    assert LiveMetrics.__module__.endswith("live_metrics") and len(shared) > 20
    seen: Counter[str] = Counter()
    for text in EXPRESSIONS:
        for use in uses(parse(text)):
            if use.metric in shared or use.metric.removesuffix("_total") in shared:
                seen[use.metric] += 1
                assert is_told_once(use), f"{use.metric} in {text}"
    assert len(seen) > 20, "most of what is told is looked at somewhere"


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_a_panel_is_whole(panel: dict[str, Any], known: dict[str, frozenset[str]]) -> None:
    [source] = yaml.safe_load((ROOT / "grafana/provisioning/datasources/penstock.yml").read_text())[
        "datasources"
    ]
    wanted = {"type": source["type"], "uid": source["uid"]}
    assert panel["datasource"] == wanted
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == wanted
        labels = answered(parse(target["expr"]), known)
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_have_ids_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells


def test_the_models_of_the_dashboard_are_found(known: dict[str, frozenset[str]]) -> None:
    [variable] = BOARD["templating"]["list"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    assert found[2] in known[found[1]]
    assert variable["name"] == "model"
    assert {name for text in BOARD_EXPRESSIONS for name in re.findall(r"\$(\w+)", text)} <= {
        "model",
        "__rate_interval",
    }


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_says_what_to_do(alert: dict[str, Any], known: dict[str, frozenset[str]]) -> None:
    assert alert["alert"].startswith("Penstock")
    assert alert["labels"]["severity"] in ("warning", "critical")
    told = alert["annotations"]
    assert set(told) == {"summary", "runbook"}
    assert len(told["runbook"]) > 80
    labels = answered(parse(alert["expr"]), known)
    assert set(re.findall(r"\$labels\.(\w+)", told["summary"] + told["runbook"])) <= labels
    others = {each["alert"] for each in ALERTS}
    assert set(re.findall(r"\bPenstock[A-Z]\w+", told["runbook"])) <= others


def test_every_alert_is_tried() -> None:
    tried = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
    samples = [each["exp_samples"] for test in tried for each in test["promql_expr_test"]]
    names = set(re.findall(r'alertname="(\w+)"', str(samples)))
    assert names == {alert["alert"] for alert in ALERTS}


@pytest.mark.skipif(
    shutil.which("promtool") is None and "CI" not in os.environ, reason="there is no promtool here"
)
@pytest.mark.parametrize(
    "words",
    [
        ["check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"],
        ["check", "rules", PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"],
        ["test", "rules", ALERTS_TEST],
    ],
    ids=["config", "rules", "tests"],
)
def test_prometheus_agrees(words: list[Any]) -> None:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
