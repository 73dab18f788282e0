"""The demo: how it keeps score, and the whole of it on the real engine."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from penstock.api import demo, demo_tasks


def test_score_counts_exact_answers_and_missing_rows_as_wrong() -> None:
    tasks = demo_tasks.load(8)
    outputs = {index: task.answer or "" for index, task in enumerate(tasks)}
    assert {(each.kind, each.right, each.total) for each in demo.score(tasks, outputs)} == {
        ("extract", 2, 2), ("classify", 2, 2), ("add", 2, 2),
    }  # fmt: skip
    del outputs[0]
    outputs[1] = "nonsense"
    assert {(each.kind, each.right) for each in demo.score(tasks, outputs)} == {
        ("extract", 1), ("classify", 1), ("add", 2),
    }  # fmt: skip


def test_tasks_are_written_without_their_truth(tmp_path: Path) -> None:
    tasks = demo_tasks.load(4)
    demo.write_tasks(tasks, tmp_path / "tasks.jsonl")
    lines = (tmp_path / "tasks.jsonl").read_text().splitlines()
    assert [set(json.loads(line)) for line in lines] == [{"id", "kind", "prompt"}] * 4
    assert [json.loads(line)["prompt"] for line in lines] == [task.prompt for task in tasks]


@pytest.mark.usefixtures("redis_server")
def test_the_demo_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock.api.cli", "demo", "--rows", "64", "--out", "here"]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr
    [line] = run.stdout.splitlines()
    report = json.loads(line)
    assert (report["status"], report["landed"], report["missing"]) == ("completed", 64, 0)
    assert min(report["accuracy"][kind] for kind in ("extract", "classify")) >= 0.8
    assert report["chat"]["error"] is None
    assert report["chat"]["text"]
    rows = tmp_path / "here" / report["job"] / "rows"
    assert report["parquet"] == str(rows)
    assert sum(pq.read_metadata(part).num_rows for part in rows.glob("*.parquet")) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
