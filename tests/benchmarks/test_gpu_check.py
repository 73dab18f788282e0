"""The check for a GPU runs on a CPU too, tiny, and survives whatever becomes of a part."""

import argparse
import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
PARTS = BENCHMARKS / "gpu_parts"
RUN_HERE = (  # the others are like one of these, or take Triton's interpreter too long
    "tokens",
    "compile Qwen2.5-0.5B",
    "throughput Qwen3-0.6B",
    "throughput Qwen3-0.6B fp8",
    "shared",
    "latency",
)
NOT_LAUNCHED = {"gumbel_of", "tile_of", "num_splits_of"}  # what launches call on their way


Load = Callable[[str], Any]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import modules as the check does, by their short names, and forget them after the test."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(PARTS)
    before = {*sys.modules}
    yield importlib.import_module
    for name in {*sys.modules} - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if Path(file).is_relative_to(BENCHMARKS):
            del sys.modules[name]


@pytest.fixture
def check(load: Load) -> Any:
    return load("gpu_check")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one call finds, as it would be made on a GPU."""
    out = tmp_path_factory.mktemp("check") / "found.json"
    command = [
        sys.executable, str(BENCHMARKS / "gpu_check.py"), "--device", "cpu", "--tiny",
        "--seed", "1", "--seconds", "3600", "--out", str(out), "--parts", *RUN_HERE,
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, cwd=out.parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "verdict" in ran.stdout
    return json.loads(out.read_text("utf-8"))


def findings(report: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in report["parts"][part]["findings"]}


def test_all_parts_find_something_and_no_fault(report: dict[str, Any]) -> None:
    assert [*report["parts"]] == [
        name for name in report["parts"] if report["parts"][name]["ending"] == "exit status 0"
    ]
    assert {*report["parts"]} == {*RUN_HERE}
    for part in RUN_HERE:
        found = findings(report, part)
        assert found
        for finding in found.values():
            assert not finding.keys() & {"error", "skipped"}, finding


def test_every_path_to_a_token_is_gone(report: dict[str, Any]) -> None:
    found = findings(report, "tokens")
    assert {finding["passed"] for name, finding in found.items() if name != "judge"} == {True}
    captured = found["captured, a step ahead, shared prefixes"]
    assert captured["replayed"] > 0
    assert captured["launched"] > 0
    assert captured["captured"] > 0
    assert found["by the host, a step ahead"]["replayed"] == 0
    assert found["by the device, preempted"]["preemptions"] > 0


def test_throughput_comes_with_its_shares(report: dict[str, Any]) -> None:
    found = findings(report, "throughput Qwen3-0.6B")
    again = found["256 requests, again"]
    assert again["complete"]
    assert again["replayed"] > 0
    assert again["share"] == pytest.approx(again["tokens_per_s"] / again["roofline"])
    assert 0 <= found["profile"]["idle"] < 1
    assert found["cold start"]["cold_start_s"] > 0
    ratio = findings(report, "shared")["ratio"]["ratio"]
    lines = report["targets"]
    assert any("shared prefix" in line and f"{ratio:,.4g}" in line for line in lines)
    assert any("decode attention" in line and "not measured" in line for line in lines)


def test_latency_asks_whether_or_not_it_is_answered(report: dict[str, Any]) -> None:
    found = findings(report, "latency")["10 users"]
    assert found["asked"] == found["answers"] == 20


def test_the_budget_is_under_nine_minutes_and_the_parts_are_there(check: Any) -> None:
    assert check.budget_s(check.WAVES) < 530
    tasks = [task for wave in check.WAVES for task in wave]
    assert len({task.name for task in tasks}) == len(tasks)
    for task in tasks:
        assert (PARTS / f"{task.part}.py").is_file()
    assert all(len(wave) == 1 for wave in check.WAVES[1:]), "what is timed runs alone"


def test_what_is_promised_is_looked_for(check: Any, load: Load) -> None:
    targets = load("gpu_parts.targets")
    names = {task.name for wave in check.WAVES for task in wave}
    assert {target.part for target in targets.TARGETS} <= names
    target = targets.Target("idle", "one", "profile", "idle", at_most=0.05)
    results = {"one": {"findings": [{"name": "profile", "idle": 0.04}]}}
    assert target.found_in(results) == 0.04
    assert target.found_in({}) is None
    verdicts = [target.verdict(value) for value in (None, 0.05, 0.06)]
    assert verdicts == ["not measured", "pass", "MISS"]


def test_every_function_of_the_gpu_kernels_has_its_twin_checked() -> None:
    written = {
        node.name
        for path in (ROOT / "kernels").glob("triton_*.py")
        if path.stem not in ("triton_attention", "triton_launch", "triton_ops")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if "kernel" not in node.name
    } - NOT_LAUNCHED
    called: set[str] = set()
    for path in PARTS.glob("*_twins.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and "kernels.triton_" in (node.module or ""):
                called |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute) and not ast.unparse(node).startswith("reference"):
                called.add(node.attr)
    assert len(written) > 15
    assert written <= called, f"without a check: {written - called}"


def test_a_part_that_dies_or_hangs_is_told_of_and_the_rest_goes_on(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = tmp_path / "gpu_parts"
    parts.mkdir()
    tell = 'print(\'{"name": "found", "value": 1}\', flush=True)\n'
    (parts / "well.py").write_text(f"print('a word')\n{tell}", "utf-8")
    (parts / "dies.py").write_text(f'{tell}print(\'{{"name": "cut\')\nraise SystemExit(3)', "utf-8")
    hangs = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', '{}'])\n{}"
    sleep = "import time; time.sleep(600)"
    (parts / "hangs.py").write_text(hangs.format(sleep, sleep), "utf-8")
    monkeypatch.setattr(check, "HERE", tmp_path)
    given = argparse.Namespace(device="cpu", tiny=False, seed=0, seconds=600.0)
    waves = [
        [check.Task("hangs", "", 3), check.Task("dies", "", 60)],
        [check.Task("well", "", 60)],
    ]
    results = dict(check.run(waves, given, tmp_path))
    assert results["well"]["ending"] == "exit status 0"
    assert results["dies"]["ending"] == "exit status 3"
    assert results["hangs"]["ending"] == "stopped after 3 s"
    assert [results[name]["findings"] for name in ("well", "dies")] == [
        [{"name": "found", "value": 1}]
    ] * 2
    assert {*check.faults(results)} == {"hangs", "dies"}


def test_without_time_a_wave_is_left_out(check: Any, tmp_path: Path) -> None:
    given = argparse.Namespace(device="cpu", tiny=True, seed=0, seconds=5.0)
    results = dict(check.run([[check.Task("rates", "", 45)]], given, tmp_path))
    assert results["rates"]["ending"] == "no time left"


def test_a_finding_that_is_an_error_fails_the_check(check: Any) -> None:
    told = [{"name": "a", "error": "no"}, {"name": "b", "passed": False}, {"name": "c"}]
    results = {"one": {"ending": "exit status 0", "findings": told}}
    assert check.faults(results) == ["one: a", "one: b"]


def test_the_work_and_its_roofline_are_those_of_the_published_figures(load: Load) -> None:
    """256 requests of nano-vllm's benchmark, at 4.3 TB/s and 790 TFLOP/s."""
    shapes = load("shapes")
    work = shapes.Work.of(256, tiny=False)
    assert (sum(map(len, work.prompts)), sum(work.lengths)) == (142_827, 133_966)
    for name, wanted in (("Qwen3-0.6B", 35_800), ("Llama-3.1-8B", 13_250)):
        config = shapes.SHAPES[name].config(tiny=False)
        assert sum(work.lengths) / shapes.least_seconds(config, work) == pytest.approx(
            wanted, rel=0.02
        )


def test_idle_time_is_what_no_event_covers(load: Load) -> None:
    serving = load("serving")
    spans = [("a", 0, 10), ("b", 5, 10), ("b", 6, 2), ("c", 30, 10)]
    events = [{"name": name, "ts": begin, "dur": length} for name, begin, length in spans]
    found = serving.busy_share(events, 2)
    assert found["idle"] == pytest.approx(15 / 40)
    assert found["events_per_step"] == 2
    assert found["largest"]["b"] == pytest.approx(12 / 40)
    with pytest.raises(ValueError, match="no event"):
        serving.busy_share([], 2)


def test_a_step_that_fails_on_the_device_is_a_fault() -> None:
    """Though the engine goes on by the host, and every token is right."""
    code = """
import sys, tempfile; sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from shapes import SHAPES, make_engine, save_model
from watch import Watch
from penstock.engine.device_sampler import DeviceSampler
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams
def broken(*_): raise ValueError("no such kernel")
DeviceSampler.sample = broken
watch = Watch.begin()
with tempfile.TemporaryDirectory() as directory:
    model = save_model(SHAPES["Qwen3-0.6B"], Path(directory), tiny=True)
    engine = make_engine(model, torch.device("cpu"), max_num_seqs=2, kv_cache_gb=0.01)
    engine.add(Request("a", (5, 6), SamplingParams(max_tokens=2)))
    while engine.has_work:
        engine.step()
try:
    watch.tell()
except RuntimeError as error:
    print(error)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(PARTS)], capture_output=True, text=True, env=environment
    )
    assert "steps failed on the device" in ran.stdout, ran.stderr
    assert "no such kernel" in ran.stdout
