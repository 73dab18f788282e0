"""The verbs about workflows, driven as a person or a pipe drives them, against a real stack."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from penstock import Client, Workflow
from penstock.api.cli_workflow_inputs import counts_in
from penstock.api.run_progress import RunProgress, progress_line
from penstock.api.workflow_records import RunRecord

from .command import Penstock
from .conftest import MODEL, Stack
from .plain_workflows import WORKFLOW, endless, rows

JOB = "job_01K3ZZZZZZZZZZZZZZZZ4K2J9Q"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "said.yaml"
    path.write_text(Workflow.from_dict(WORKFLOW).to_yaml())
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(4)))
    return path


@pytest.fixture(scope="module")
def done(stack: Stack) -> Iterator[str]:
    with Client(stack.url) as client:
        yield (
            client.workflows.run(WORKFLOW, {"texts": rows(3)}, use_cache=False)
            .wait(timeout_s=60)
            .id
        )


class TestRun:
    def test_it_runs_to_its_end_and_brings_the_rows(
        self, penstock: Penstock, stack: Stack, file: Path, texts: Path, tmp_path: Path
    ) -> None:
        command = ("workflow", "run", file, "-i", f"texts={texts}", "-p", "mark=?")
        command = (*command, "--out", tmp_path / "out", "--url", stack.url)
        run = penstock(*command)
        assert run.code == 0, run.err
        [record] = run.lines
        assert record["counts"] == {"input": 4, "output": 4, "rejected": 0}
        assert "✓said 8" in run.err  # a line for each step that ends
        table = pq.read_table(tmp_path / "out" / record["id"] / "rows")
        assert json.loads(table.column("said")[0].as_py())["text"] == "t0?"
        again = penstock(*command)
        assert again.lines[0]["id"] == record["id"]
        assert "did this before; --again does it anew" in again.err

    def test_a_person_sees_rows(
        self, penstock: Penstock, stack: Stack, file: Path, texts: Path, tmp_path: Path
    ) -> None:
        command = ("workflow", "run", file, "-i", texts, "--out", tmp_path, "--url", stack.url)
        run = penstock(*command, "-o", "table")
        assert run.code == 0, run.err
        assert "row_id" in run.out
        assert "text: t0!, size: 1" in run.out
        assert "completed · 4 rows" in run.err

    def test_a_line_that_is_none_shows_in_the_exit_status(
        self, penstock: Penstock, stack: Stack, file: Path, texts: Path, tmp_path: Path
    ) -> None:
        texts.write_text(texts.read_text() + "{broken\n")
        command = ("workflow", "run", file, "-i", texts, "--out", tmp_path, "--url", stack.url)
        run = penstock(*command)
        assert run.code == 4
        assert "1 line rejected" in run.err
        assert penstock("watch", run.lines[0]["id"], "--url", stack.url).code == 4

    def test_it_need_not_be_watched(
        self, penstock: Penstock, stack: Stack, file: Path, texts: Path, tmp_path: Path
    ) -> None:
        command = ("workflow", "run", file, "-i", texts, "--out", tmp_path, "--url", stack.url)
        run = penstock(*command, "--detach", "--again")
        assert run.code == 0
        watched = penstock("watch", run.lines[0]["id"], "--url", stack.url)
        assert watched.code == 0
        assert watched.lines[-1]["status"] == "completed"
        stages = [
            (line["status"], [step["state"] for step in line["steps"]]) for line in watched.lines
        ]
        assert all(before != after for before, after in pairwise(stages))

    def test_ctrl_c_detaches_and_the_run_goes_on(
        self, penstock: Penstock, stack: Stack, texts: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "endless.json"
        file.write_text(json.dumps(endless()))
        command = [sys.executable, "-m", "penstock.api.cli", "workflow", "run", str(file)]
        command += ["-i", str(texts), "--out", str(tmp_path), "--url", stack.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            run_id = process.stderr.readline().split()[0]
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(60) == 130
        assert f"penstock watch {run_id}  re-attaches" in said
        assert penstock("pause", run_id, "--url", stack.url).lines[0]["status"] == "paused"
        assert penstock("resume", run_id, "--url", stack.url).lines[0]["status"] != "paused"
        assert penstock("cancel", run_id, "--url", stack.url).lines[0]["status"] == "cancelled"
        late = penstock("pause", run_id, "--url", stack.url)
        assert "had ended (cancelled): nothing was done" in late.err
        assert penstock("watch", run_id, "--url", stack.url).code == 3

    def test_after_a_cancelled_run_the_same_command_begins_one_and_finds_it_again(
        self, penstock: Penstock, stack: Stack, texts: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "endless.json"
        file.write_text(json.dumps(endless()))
        command = ("workflow", "run", file, "-i", texts, "--out", tmp_path, "--url", stack.url)
        [cancelled] = penstock(*command, "--detach").lines
        penstock("cancel", cancelled["id"], "--url", stack.url)
        [second] = penstock(*command, "--detach").lines
        assert second["id"] != cancelled["id"]
        assert penstock(*command, "--detach").lines[0]["id"] == second["id"]
        penstock("cancel", second["id"], "--url", stack.url)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["{file}", "-i", "nope={texts}"], "no input 'nope'; inputs: texts"),
            (["{file}", "-i", "texts=missing.jsonl"], "cannot read missing.jsonl"),
            (["{file}", "-p", "mark"], "expected NAME=VALUE, got 'mark'"),
            (["missing.yaml"], "cannot read missing.yaml"),
            (["{texts}"], "a second value begins here; one file holds one"),
        ],
    )
    def test_usage(
        self,
        penstock: Penstock,
        stack: Stack,
        file: Path,
        texts: Path,
        arguments: list[str],
        says: str,
    ) -> None:
        given = [each.format(file=file, texts=texts) for each in arguments]
        run = penstock("workflow", "run", *given, "--url", stack.url)
        assert (run.code, run.out) == (2, "")
        assert says in run.err


class TestTrials:
    def test_validate(self, penstock: Penstock, stack: Stack, file: Path, texts: Path) -> None:
        run = penstock("workflow", "validate", file, "-i", texts, "--url", stack.url, "-o", "table")
        assert run.code == 0, run.err
        assert MODEL in run.out
        assert "up to 1,000 of 1" in run.out
        assert "text string, said json" in run.out

    def test_all_problems_are_printed(
        self, penstock: Penstock, stack: Stack, file: Path, texts: Path
    ) -> None:
        spec = file.read_text()
        file.write_text(spec.replace("row.said.size <", "row.saad.size <").replace("copy.v", "c.v"))
        run = penstock("workflow", "validate", file, "-i", texts, "--url", stack.url)
        assert run.code == 2
        assert run.lines[0]["valid"] is False
        assert len(run.lines[0]["errors"]) >= 2
        assert "steps.said" in run.err
        assert "steps.small" in run.err
        assert "nothing was run" in run.err

    def test_preview(self, penstock: Penstock, stack: Stack, file: Path, texts: Path) -> None:
        run = penstock(
            "workflow", "preview", file, "-i", texts, "--rows", 1, "--url", stack.url, "-o", "table"
        )  # fmt: skip
        assert run.code == 0, run.err
        assert "said (generate): 2 in, 2 out" in run.out
        assert '[[say]]{"text": "t0!", "size": 1}' in run.out

    @pytest.mark.parametrize(
        ("count", "told"),
        [
            ("texts=-5", "a whole number of rows, at least 0, got 'texts=-5'"),
            ("-5", "a whole number of rows"),
            ("many", "a whole number of rows"),
            ("qq=5", "--rows takes NAME=N, got 'qq=5'; inputs: texts"),
        ],
    )
    def test_a_plan_is_refused_in_the_words_of_its_options(
        self, penstock: Penstock, file: Path, texts: Path, count: str, told: str
    ) -> None:
        refused = penstock("workflow", "plan", file, "-i", texts, f"--rows={count}")
        assert refused.code == 2
        assert told in " ".join(refused.err.replace("│", "").split())

    def test_a_number_of_rows_is_the_only_inputs(self, file: Path) -> None:
        assert counts_in(Workflow.load(file), ["200000"]) == {"texts": 200_000}

    def test_a_run_without_rows_is_told_how_to_give_them(
        self, penstock: Penstock, file: Path
    ) -> None:
        refused = penstock("workflow", "run", file)
        assert (refused.code, "say --input texts=FILE" in refused.err) == (2, True)

    def test_plan(self, penstock: Penstock, stack: Stack, file: Path, texts: Path) -> None:
        command = ("workflow", "plan", file, "-i", texts, "--url", stack.url)
        [found] = penstock(*command, "--rows", "texts=1000").lines
        assert found["steps"][0]["rows_out"]["estimate"] == 2000
        run = penstock(*command, "-o", "table")
        assert "a sample of 4 rows" in run.out

    def test_a_rate_may_be_said(
        self, penstock: Penstock, stack: Stack, file: Path, texts: Path
    ) -> None:
        command = ("workflow", "plan", file, "-i", texts, "--rate", 10, "--url", stack.url)
        [found] = penstock(*command).lines
        said = found["total"]["completion_tokens"]["estimate"] / 10
        assert found["total"]["seconds"]["estimate"] == pytest.approx(said, abs=0.2)
        assert "10 tokens/s of each model, as said" in found["rests_on"]

    def test_schema(self, penstock: Penstock, stack: Stack) -> None:
        assert "$defs" in json.loads(penstock("workflow", "schema", "--url", stack.url).out)


class TestLooking:
    def test_show(self, penstock: Penstock, stack: Stack, done: str) -> None:
        run = penstock("show", done, "--url", stack.url, "-o", "table")
        assert "said-twice" in run.out
        assert "✓ largest" in run.out
        assert penstock("show", done, "--url", stack.url).lines[0]["id"] == done

    def test_show_a_row(self, penstock: Penstock, stack: Stack, done: str) -> None:
        run = penstock("show", done, "--row", "1/copy#0", "--url", stack.url, "-o", "table")
        assert run.code == 0, run.err
        assert 'asked     [[say]]{"text": "t1!", "size": 1}' in run.out
        assert "value     text: t1!, size: 1" in run.out
        told = penstock("show", done, "--row", "1/copy#0", "--url", stack.url).lines
        assert [trace["step"] for trace in told] == ["copy", "said"]  # its brother was larger
        missing = penstock("show", done, "--row", "77", "--url", stack.url)
        assert missing.code == 1
        assert "has no row '77'" in missing.err
        assert penstock("show", JOB, "--row", "1", "--url", stack.url).code == 2

    def test_vectors_are_shown_by_how_they_begin(
        self, penstock: Penstock, stack: Stack, texts: Path, tmp_path: Path
    ) -> None:
        workflow = Workflow("vectors", defaults={"model": MODEL})
        workflow.input("texts").embed("vector", text="{{ row.text }}")
        file = tmp_path / "vectors.yaml"
        file.write_text(workflow.to_yaml())
        table = ("--url", stack.url, "-o", "table")
        with Client(stack.url) as client:
            run = client.workflows.run(file, texts).wait(timeout_s=60)
            [trace] = run.row("0")
            assert len(trace["value"]) == 8
        commands: list[tuple[object, ...]] = [
            ("results", run.id),
            ("results", run.id, "--step", "vector"),
            ("show", run.id, "--row", "0"),
            ("workflow", "preview", file, "-i", texts, "--rows", 1),
        ]
        for command in commands:
            told = penstock(*command, *table)
            assert told.code == 0, told.err
            assert f"…] {len(trace['value'])} numbers" in told.out, told.out
            assert len(told.out) < 1_000

    def test_results(self, penstock: Penstock, stack: Stack, done: str) -> None:
        found = penstock("results", done, "--url", stack.url).lines
        assert [row["said"]["size"] for row in found] == [1, 2, 3]
        of_step = penstock("results", done, "--step", "copy", "--limit", 2, "--url", stack.url)
        assert [row["row_id"] for row in of_step.lines] == ["0/copy#0", "0/copy#1"]
        assert "said" in penstock("results", done, "--url", stack.url, "-o", "table").out

    def test_what_is_for_jobs_only(self, penstock: Penstock, stack: Stack, done: str) -> None:
        run = penstock("results", done, "--status", "failed", "--url", stack.url)
        assert run.code == 2
        assert run.err.startswith("penstock: ")

    def test_faults_are_told_in_words(
        self, penstock: Penstock, stack: Stack, texts: Path, tmp_path: Path
    ) -> None:
        steps = [{"id": "part", "type": "map", "set": {"x": "1 / (row.size - 2)"}}]
        file = tmp_path / "faults.json"
        file.write_text(json.dumps({**WORKFLOW, "steps": steps, "output": {}}))
        run = penstock("workflow", "run", file, "-i", texts, "--out", tmp_path, "--url", stack.url)
        assert run.code == 4
        run_id = run.lines[0]["id"]
        (error,) = penstock("errors", run_id, "--url", stack.url).lines
        assert (error["step"], error["code"]) == ("part", "expression_error")
        assert "/ by zero" in error["message"]
        other = penstock("errors", run_id, "--code", "nope", "--url", stack.url)
        assert (other.out, other.err) == ("", "no error of the code 'nope'; 1 error in all\n")
        shown = penstock("show", run_id, "--url", stack.url, "-o", "table")
        assert f"the first in row {error['row_id']}: " in shown.err
        args = ("-i", texts, "--rows", "9", "--url", stack.url, "-o", "table")
        assert "expression_error: / by zero" in penstock("workflow", "preview", file, *args).out

    def test_a_run_that_failed(
        self, penstock: Penstock, stack: Stack, texts: Path, tmp_path: Path
    ) -> None:
        broken = {"id": "broken", "type": "map", "set": {"x": "1 / (row.size - 2)"}}
        steps = [{**broken, "on_error": "fail"}]
        file = tmp_path / "fails.json"
        file.write_text(json.dumps({**WORKFLOW, "steps": steps, "output": {}}))
        run = penstock("workflow", "run", file, "-i", texts, "--out", tmp_path, "--url", stack.url)
        assert run.code == 3
        assert run.lines[0]["status"] == "failed"
        assert "error: " in run.err
        assert "broken" in run.err
        run_id = run.lines[0]["id"]
        assert penstock("delete", run_id, "--url", stack.url).code == 0
        assert "run_" in penstock("show", run_id, "--url", stack.url).err

    def test_runs(self, penstock: Penstock, stack: Stack, done: str) -> None:
        assert done in [run["id"] for run in penstock("workflow", "runs", "--url", stack.url).lines]
        assert "said-twice" in penstock("workflow", "runs", "--url", stack.url, "-o", "table").out


class TestKept:
    def test_a_workflow_is_kept_until_it_is_forgotten(
        self, penstock: Penstock, stack: Stack, tmp_path: Path
    ) -> None:
        file, url = tmp_path / "kept.yaml", ("--url", stack.url)
        spec = {**WORKFLOW, "name": "kept-here", "description": "Says each text twice."}
        file.write_text(Workflow.from_dict(spec).to_yaml())
        assert penstock("workflow", "save", file, *url).lines == [
            {"name": "kept-here", "version": 1}
        ]
        file.write_text(Workflow.from_dict({**spec, "description": "Twice."}).to_yaml())
        assert "kept-here is kept, version 2" in penstock("workflow", "save", file, *url).err
        listed = penstock("workflow", "list", *url, "-o", "table").out
        assert "kept-here" in listed
        assert "Twice." in listed
        shown = penstock("workflow", "show", "kept-here", "--version", 1, *url, "-o", "table")
        assert Workflow.from_yaml(shown.out) == Workflow.from_dict(spec)
        [newest] = penstock("workflow", "show", "kept-here", *url).lines
        assert newest["description"] == "Twice."
        assert "is forgotten" in penstock("workflow", "delete", "kept-here", *url).err
        again = penstock("workflow", "delete", "kept-here", *url)
        assert (again.code, again.out) == (1, "")
        assert "there is no workflow 'kept-here'" in again.err
        file.write_text(file.read_text().replace("row.said.size <", "row.saad.size <"))
        assert penstock("workflow", "save", file, *url).code == 2

    def test_a_graph_is_drawn(self, penstock: Penstock, file: Path) -> None:
        drawn = penstock("workflow", "graph", file)
        assert drawn.code == 0
        assert drawn.out.splitlines()[:2] == ["inputs.texts", "copy  expand"]
        assert penstock("workflow", "graph", file, "-o", "mermaid").out.startswith("flowchart TD")


def record(status: str, *steps: tuple[str, str, int]) -> RunRecord:
    data: dict[str, Any] = {
        "id": "run_1",
        "status": status,
        "workflow": "w",
        "steps": [
            {"id": name, "type": "map", "state": state, "rows": {"out": count}}
            for name, state, count in steps
        ],
    }
    return RunRecord.from_json(data)


def test_progress_is_a_line_for_each_stage_where_nobody_sits() -> None:
    text = io.StringIO()
    with RunProgress(Console(file=text, width=200)) as board:
        board.show(record("running", ("a", "running", 0), ("b", "waiting", 0)))
        board.show(record("running", ("a", "running", 5), ("b", "waiting", 0)))
        board.show(record("running", ("a", "completed", 9), ("b", "running", 1)))
    assert text.getvalue().splitlines() == [
        "run_1 running ▸a 0 · ·b 0",
        "run_1 running ✓a 9 · ▸b 1",
    ]
    assert progress_line(record("cancelled", ("a", "running", 5))) == "run_1 cancelled ■a 5"


def test_progress_is_a_table_on_a_terminal() -> None:
    text = io.StringIO()
    with RunProgress(Console(file=text, width=200, force_terminal=True)) as board:
        board.show(record("running", ("a", "completed", 1200), ("b", "running", 1)))
    drawn = text.getvalue()
    assert "✓ a" in drawn
    assert "1.2k" in drawn
    assert "▸ b" in drawn
