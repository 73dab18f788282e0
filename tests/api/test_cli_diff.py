"""`penstock diff`: which rows of two jobs, or two runs, differ, and what is said about it."""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from penstock import Client
from penstock.api.client_errors import InvalidInput
from penstock.api.job_diff import diff_of
from penstock.api.latency_sketch import LatencySketch
from penstock.api.row_diff import RowDiff
from penstock.api.row_metrics import Metric, likeness
from penstock.api.row_pairs import pairs_by_key, pairs_in_order
from penstock.api.word_diff import word_diff

from .command import Penstock
from .conftest import MODEL, Stack
from .plain_workflows import WORKFLOW, rows as workflow_rows

SAID_BY_A = ["one  word", "two", "three", "[[fail]]", "five", "six"]
SAID_BY_B = ["One word", "two", "3", "four", "[[fail]]"]


def submit(client: Client, said: Sequence[str]) -> str:
    rows = [
        {"key": f"k{n}", "text": "[[say]]" + t if "[[" not in t else t} for n, t in enumerate(said)
    ]
    job = client.jobs.submit(
        rows, prompt="{{ row.text }}", model=MODEL, id="key", endpoint="/v1/completions"
    )
    return job.wait(timeout_s=60).id


@pytest.fixture(scope="module")
def pair(stack: Stack) -> Iterator[tuple[str, str]]:
    with Client(stack.url) as client:
        yield submit(client, SAID_BY_A), submit(client, SAID_BY_B)


class TestJobs:
    def test_a_program_gets_each_row_that_differs_and_the_sums(
        self, penstock: Penstock, stack: Stack, pair: tuple[str, str]
    ) -> None:
        run = penstock("diff", *pair, "--url", stack.url)
        assert run.code == 4
        *changes, summary = run.lines
        assert [(each["key"], each["change"]) for each in changes] == [
            ("0", "changed"), ("2", "changed"), ("3", "changed"), ("4", "changed"),
            ("5", "only_in_a"),
        ]  # fmt: skip
        assert (changes[1]["a"]["output"], changes[1]["b"]["output"]) == ("three", "3")
        assert changes[4]["b"] is None
        assert summary["object"] == "diff.summary"
        assert summary["rows"] == {"same": 1, "changed": 4, "only_in_a": 1, "only_in_b": 0}
        assert summary["same_rate"] == 0.2
        assert summary["errors"] == {
            "gone": {"engine_error": 1}, "new": {"engine_error": 1}, "in_both": {},
        }  # fmt: skip
        assert summary["a"]["rows"], summary["b"]["rows"] == (6, 5)
        assert summary["a"]["completion_tokens"] > 0
        assert summary["a"]["latency_ms"]["p95"] >= summary["a"]["latency_ms"]["p50"] > 0

    @pytest.mark.parametrize(
        ("options", "changed"),
        [
            (["--on", "id"], ["k0", "k2", "k3", "k4", "k5"]),
            (["--metric", "normalized"], ["2", "3", "4", "5"]),
            (["--metric", "similarity", "--at-least", "0.7"], ["2", "3", "4", "5"]),
            (["--columns", "finish_reason"], ["3", "4", "5"]),
            (["--columns", "finish_reason, output"], ["0", "2", "3", "4", "5"]),
        ],
    )
    def test_other_ways_to_compare(
        self,
        penstock: Penstock,
        stack: Stack,
        pair: tuple[str, str],
        options: list[str],
        changed: list[str],
    ) -> None:
        run = penstock("diff", *pair, *options, "--url", stack.url)
        assert [line["key"] for line in run.lines[:-1]] == changed

    def test_a_person_sees_words(
        self, penstock: Penstock, stack: Stack, pair: tuple[str, str]
    ) -> None:
        run = penstock("diff", *pair, "--url", stack.url, "-o", "table", "--limit", "4")
        assert run.code == 4
        assert "[-three-]{+3+}" in run.out
        assert "- failed: engine_error" in run.out
        assert "+ four" in run.out
        assert "row 5" not in run.out
        assert "and 1 more" in run.err
        assert pair[0] in run.out
        assert pair[1] in run.out
        assert "(20.0%)" in run.out

    def test_a_job_is_the_same_as_itself(
        self, penstock: Penstock, stack: Stack, pair: tuple[str, str]
    ) -> None:
        run = penstock("diff", pair[0], pair[0], "--url", stack.url)
        assert run.code == 0
        [summary] = run.lines
        assert summary["same_rate"] == 1.0
        assert summary["errors"]["in_both"] == {"engine_error": 1}

    def test_what_cannot_be_compared(
        self, penstock: Penstock, stack: Stack, pair: tuple[str, str]
    ) -> None:
        unknown = penstock("diff", *pair, "--columns", "outptu", "--url", stack.url)
        assert (unknown.code, "no column 'outptu'" in unknown.err) == (2, True)
        with Client(stack.url) as client:
            nameless = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=MODEL)
            nameless.wait(timeout_s=60)
            with pytest.raises(InvalidInput, match="no custom_id"):
                list(diff_of(nameless, nameless, on="id"))
            with pytest.raises(InvalidInput, match="metric must be one of"):
                diff_of(nameless, nameless, metric="foo")


def test_runs_of_workflows(penstock: Penstock, stack: Stack) -> None:
    with Client(stack.url) as client:
        ids = [
            client.workflows.run(WORKFLOW, {"texts": workflow_rows(3)}, params={"mark": mark})
            .wait(timeout_s=60)
            .id
            for mark in ("!", "?")
        ]
        with pytest.raises(InvalidInput, match="pair them by id"):
            diff_of(client.workflows.get(ids[0]), client.workflows.get(ids[1]), on="row_index")
    run = penstock("diff", *ids, "--url", stack.url)
    assert run.code == 4
    assert run.lines[-1]["rows"] == {"same": 0, "changed": 3, "only_in_a": 0, "only_in_b": 0}
    shown = penstock("diff", *ids, "-o", "table", "--url", stack.url)
    assert "[-!-]{+?+}" in shown.out
    assert penstock("diff", *ids, "--columns", "text", "--url", stack.url).code == 0


def test_of_runs_what_failed_is_told_beside_what_they_say(penstock: Penstock, stack: Stack) -> None:
    step = {"id": "say", "type": "generate", "prompt": "{{ row.text }}", "on_error": "drop"}
    workflow = {**WORKFLOW, "name": "failing", "steps": [step], "output": {}}
    with Client(stack.url) as client:
        ids = [
            client.workflows.run(
                workflow, {"texts": [{"text": text, "size": 1} for text in said]}, use_cache=False
            )
            .wait(timeout_s=60)
            .id
            for said in (("one", "[[fail]]", "[[fail]]"), ("one", "[[fail]]", "two"))
        ]
    run = penstock("diff", *ids, "--url", stack.url)
    summary = run.lines[-1]
    assert (summary["a"]["failed"], summary["b"]["failed"]) == (2, 1)
    assert summary["errors"] == {
        "gone": {"engine_error": 1}, "new": {}, "in_both": {"engine_error": 1},
    }  # fmt: skip
    shown = penstock("diff", *ids, "-o", "table", "--url", stack.url).out
    assert re.search(r"failed +2 +1", shown)
    assert re.search(r"errors in both +engine_error 1", shown)


def row(index: int, output: str = "x", **facts: Any) -> dict[str, Any]:
    return {"row_index": index, "custom_id": f"c{index}", "output": output, **facts}


@pytest.mark.parametrize("seed", range(20))
def test_both_ways_to_pair_find_the_same_pairs(seed: int) -> None:
    chance = random.Random(seed)
    sides = [
        [
            row(index, sample_index=sample)
            for index in range(40)
            if chance.random() < 0.7
            for sample in range(2)
        ]
        for _ in "ab"
    ]

    def key_of(each: Any) -> str:
        return f"{each['custom_id']}#{each['sample_index']}"

    def names(pairs: Any) -> set[tuple[str | None, str | None]]:
        return {(a and key_of(a), b and key_of(b)) for a, b in pairs}

    in_order = names(pairs_in_order(sides[0], sides[1]))
    for side in sides:
        chance.shuffle(side)
    assert names(pairs_by_key(sides[0], sides[1], key_of)) == in_order
    assert {key for pair in in_order for key in pair if key} == {
        key_of(each) for side in sides for each in side
    }
    assert all(a is None or b is None or a == b for a, b in in_order)


def test_rows_of_one_key_pair_off_as_they_come() -> None:
    same = [{"custom_id": "k", "output": text} for text in "abc"]
    pairs = list(pairs_by_key(same, same[:2], lambda each: each["custom_id"]))
    assert [(a and a["output"], b and b["output"]) for a, b in pairs] == [
        ("a", "a"), ("b", "b"), ("c", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "a", "b", "alike"),
    [
        (Metric.EXACT, "a", "a ", 0.0),
        (Metric.NORMALIZED, "A\n b", "a B", 1.0),
        (Metric.NORMALIZED, "a", "b", 0.0),
        (Metric.JSON, '{"a": 1, "b": [2]}', '{"b":[2.0],"a":1}', 1.0),
        (Metric.JSON, "no json", "no  json", 0.0),
        (Metric.JSON, '{"ok": 1}', '{"ok": true}', 0.0),
        (Metric.JSON, "[[0], {}]", "[[false], {}]", 0.0),
        (Metric.EXACT, {"ok": 1}, {"ok": True}, 0.0),
        (Metric.JSON, {"a": 1}, '{"a": 1}', 1.0),
        (Metric.SIMILARITY, "abcd", "abce", 0.75),
        (Metric.SIMILARITY, None, "", 1.0),
        (Metric.SIMILARITY, "a b c d " * 50, "a b c e " * 50, 0.75),
        (Metric.SIMILARITY, "x " * 5_000, "x " * 5_001, 0.999),
    ],
)
def test_metrics(metric: Metric, a: Any, b: Any, alike: float) -> None:
    assert likeness(a, b, metric) == pytest.approx(alike)


def test_a_word_diff_tells_what_changed_and_little_else() -> None:
    assert word_diff("the cat sat", "the dog sat") == [
        ("same", "the "), ("removed", "cat"), ("added", "dog"), ("same", " sat"),
    ]  # fmt: skip
    far = word_diff("a " * 100 + "b", "a " * 100 + "c")
    assert far[0] == ("same", "…" + "a " * 20)
    assert sum(len(text) for _, text in word_diff("x " * 9_000, "y " * 9_000)) < 900


def test_quantiles_are_right_within_two_per_cent() -> None:
    sketch, times = LatencySketch(), [1.0 + n for n in range(10_000)]
    assert sketch.quantile(0.5) is None
    for each in times:
        sketch.add(each)
    for share in (0.1, 0.5, 0.95, 1.0):
        assert sketch.quantile(share) == pytest.approx(times[round(share * 10_000) - 1], rel=0.02)


def test_sums_of_rows_that_both_lack_words() -> None:
    failed = row(0, status="failed", error={"code": "oom"})
    other = row(0, status="failed", error={"code": "worker_lost"})
    diff = RowDiff.in_order([failed], [other], columns=["output"])
    assert [change.kind for change in diff] == ["changed"]
    assert (dict(diff.errors_gone), dict(diff.errors_new)) == ({"oom": 1}, {"worker_lost": 1})
