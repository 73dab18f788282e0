"""Pieces of a run's work: what is told of them adds up, however often they are done."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.sealed_input import InputSealer
from penstock.jobs.workflow.checks.check import check, read_workflow
from penstock.jobs.workflow.plan import ColumnKind
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_results import RunResults
from penstock.jobs.workflow.runs.run_spec import RunSpec, SealedDataset
from penstock.jobs.workflow.work import (
    AskOrSettle,
    Broken,
    Compute,
    Emit,
    Gather,
    Gathered,
    Made,
    Wanted,
)
from penstock.jobs.workflow.workshop.shard_file import read_report
from penstock.jobs.workflow.workshop.shard_report import summed
from penstock.jobs.workflow.workshop.workbench import Workbench

RUN_ID = "run_1"
COLUMNS: dict[str, ColumnKind] = {"t": "string"}


def sealed(data: Path, steps: list[dict[str, Any]], texts: list[str | None]) -> RunSpec:
    """Seal a run over rows with one text each."""
    document = {"name": "w", "inputs": {"rows": {}}, "steps": steps}
    workflow = read_workflow(document)
    plan = check(workflow, {}, {"rows": COLUMNS})
    directory = RunDir(data / "runs", RUN_ID)
    directory.create()
    sealer = InputSealer(directory.input("rows"), plan.shard_rows)
    for index, text in enumerate(texts):
        sealer.add(index, None, json.dumps({"t": text}))
    sealer.close()
    dataset = SealedDataset(sealer.num_rows, sealer.num_shards, COLUMNS)
    spec = RunSpec(RUN_ID, workflow, {}, {"rows": dataset}, str(data / "out"), created_at_ms=0)
    directory.seal(spec)
    return spec


def gathered(data: Path, spec: RunSpec) -> Gathered:
    made = Workbench(data).do(Gather(RUN_ID, "d", (spec.inputs["rows"].num_shards,)))
    assert isinstance(made, Gathered), made
    return made


@pytest.mark.parametrize("count", [0, 3, 256, 600])
def test_the_reports_of_all_shards_add_up(tmp_path: Path, count: int) -> None:
    texts = [text for index in range(count) for text in (f"text {index}", f"text {index}", None)]
    steps = [{"id": "d", "type": "dedupe", "key": "{{ row.t }}", "on_error": "drop"}]
    spec = sealed(tmp_path, steps, texts)
    made = gathered(tmp_path, spec)
    report = made.report
    assert (report.rows_in, report.rows_out, report.dropped) == (3 * count, count, count)
    assert report.failed == count
    assert report.errors == ({"template_error": count} if count else {})
    assert report.fatal is None
    place = RunResults.of(spec).step("d")
    assert len(place.parts()) == made.num_shards == max(1, -(-count // 256))
    assert summed(read_report(path) for path in place.parts().values()) == report
    assert gathered(tmp_path, spec) == made  # done again: it finds what stands
    RunResults.of(spec).forget_gathered("d")
    assert gathered(tmp_path, spec) == made  # made again, beside the same shards


def test_a_step_that_may_not_fail_says_of_which_row_it_did(tmp_path: Path) -> None:
    steps = [{"id": "d", "type": "dedupe", "key": "{{ row.t }}", "on_error": "fail"}]
    spec = sealed(tmp_path, steps, ["a", None, None])
    fatal = gathered(tmp_path, spec).report.fatal
    assert fatal is not None
    assert fatal[:2] == ("1", "template_error")


def test_what_is_not_at_hand_breaks_the_run_for_good(tmp_path: Path) -> None:
    spec = sealed(tmp_path, [{"id": "d", "type": "map", "op": "absent"}], ["a"])
    made = Workbench(tmp_path).do(Compute(spec.run_id, "d", 0))
    assert isinstance(made, Broken)
    assert made.is_lasting
    assert "'absent'" in made.message


def test_nothing_is_written_of_a_run_that_was_removed_meanwhile(tmp_path: Path) -> None:
    steps = [
        {"id": "d", "type": "dedupe", "key": "{{ row.t }}"},
        {"id": "m", "type": "map", "set": {"x": "1"}, "from": "inputs.rows"},
    ]
    spec = sealed(tmp_path, steps, ["a"])
    bench, results = Workbench(tmp_path), RunResults.of(spec)
    pieces = (Compute(RUN_ID, "m", 0), Gather(RUN_ID, "d", (1,)), Emit(RUN_ID, 0))
    for piece in pieces:
        assert isinstance(bench.do(piece), Made | Gathered)
    RunDir(tmp_path / "runs", RUN_ID).spec.unlink()
    for place in (results.output, results.step("d")):
        place.rows.joinpath("part-000000.parquet").unlink()
        place.rows.rmdir()
    results.forget_gathered("d")
    assert isinstance(bench.do(pieces[1]), Broken)
    assert isinstance(bench.do(pieces[2]), Broken)
    assert not results.step("d").rows.exists()
    assert not results.output.rows.exists()


def test_answers_of_many_tenants_are_not_all_kept_open(tmp_path: Path) -> None:
    step = {"id": "g", "type": "generate", "model": "fake", "prompt": "{{ row.t }}"}
    spec = sealed(tmp_path, [step], ["a"])
    first, bench = RunDir(tmp_path / "runs", RUN_ID), Workbench(tmp_path)
    for number in range(20):
        directory = RunDir(tmp_path / "runs", f"run_of{number}")
        shutil.copytree(first.path, directory.path)
        directory.seal(replace(spec, run_id=directory.run_id, tenant=f"tenant{number}"))
        work = AskOrSettle(directory.run_id, "g", 0, revisions={"fake": "1"})
        assert isinstance(bench.do(work), Wanted)
    assert len(list(tmp_path.glob("cache/*.sqlite"))) == 20
    files = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    num_open = sum(file.startswith(f"{tmp_path}/cache/") for file in files)
    assert 0 < num_open <= 8
