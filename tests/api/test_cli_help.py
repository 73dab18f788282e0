"""Help: every page is as it was agreed on, and the example at its end does what it shows."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock import Client, Workflow
from penstock.api.cli import make_app
from penstock.api.cli_examples import EXAMPLES

from . import golden_help
from .command import Penstock
from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_workflows import WORKFLOW, rows as workflow_rows

JOB = "job_01K3ZT4Q9X"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return golden_help.help_pages()


@pytest.mark.parametrize("verb", golden_help.verbs())
def test_the_page_is_the_agreed_one(pages: dict[str, str], verb: str) -> None:
    place = golden_help.place_of(verb)
    agreed = place.read_text(encoding="utf-8") if place.exists() else ""
    assert pages[verb] == agreed, "python -m tests.api.golden_help writes the pages again"


def test_no_page_is_left_of_a_verb_that_is_gone() -> None:
    known = {golden_help.place_of(verb).name for verb in golden_help.verbs()}
    assert {path.name for path in golden_help.PAGES.glob("*.txt")} == known


@pytest.mark.parametrize("verb", golden_help.verbs())
def test_a_page_fits_and_shows_an_example(pages: dict[str, str], verb: str) -> None:
    page = pages[verb]
    assert all(len(line) <= 80 for line in page.splitlines())
    if not _is_group(verb):
        assert f"\n $ {EXAMPLES[verb]}\n" in page  # on one line, so that it can be copied


@pytest.mark.parametrize("verb", EXAMPLES)
def test_an_example_parses(verb: str) -> None:
    words = shlex.split(EXAMPLES[verb])
    assert words[: 1 + len(verb.split())] == ["penstock", *verb.split()]
    told: list[dict[str, Any]] = []
    program: Any = typer.main.get_command(make_app())
    leaf = program
    for name in verb.split():
        leaf = leaf.commands[name]
    leaf.callback = lambda **options: told.append(options)
    program.main(words[1:], prog_name="penstock", standalone_mode=False)
    assert len(told) == 1


def test_the_examples_run(
    penstock: Penstock, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_URL", stack.url)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in workflow_rows(3)))
    Path("flow.yaml").write_text(Workflow.from_dict(WORKFLOW).to_yaml())
    with Client(stack.url) as client:
        rows = [{"text": "fine"}, {"text": "[[fail]]"}]
        done = client.jobs.submit(rows, prompt="{{ row.text }}", model=MODEL).wait(timeout_s=60)
        waits = client.jobs.submit(rows, prompt="{{ row.text }}", model=IDLE_MODEL)

    def run(verb: str, job_id: str = "") -> None:
        line = re.sub(rf"{JOB}\w*", job_id, EXAMPLES[verb]).replace("best-of-5", WORKFLOW["name"])
        model = ["--model", MODEL] if verb in ("run", "submit", "chat") else []  # two are here
        told = penstock(*shlex.split(line)[1:], *model)
        assert told.code in (0, 4), f"{line}\n{told.err}"
        assert told.out or verb in ("jobs", "delete", "workflow delete")

    for verb in ("run", "submit", "jobs", "chat", "models"):
        run(verb)
    for verb in ("watch", "show", "results", "errors", "retry"):
        run(verb, done.id)
    for verb in ("pause", "resume", "priority", "update", "cancel", "delete"):
        run(verb, waits.id)
    for verb in EXAMPLES:
        if verb.startswith("workflow "):
            run(verb)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["wtach"], "watch"), (["workflow", "previw"], "preview"), (["jobs", "--limt"], "--limit")],
)
def test_the_nearest_word_is_suggested(penstock: Penstock, typed: list[str], meant: str) -> None:
    run = penstock(*typed)
    assert run.code == 2
    assert meant in run.err


def test_a_flag_shows_no_value(pages: dict[str, str]) -> None:
    assert not [verb for verb, page in pages.items() if "<bool>" in page]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["jobs", "--output", "yaml"], "'yaml' is not table or json"),
        (["jobs", "--status", "nope"], "'nope' is not one of validating"),
        (["update", JOB, "--max-error-rate", "120%"], "as in 0.05, or per cent; got '120%'"),
        (["update", JOB, "--max-error-rate", "few"], "as in 0.05, or per cent; got 'few'"),
        (["priority", JOB, "5", "--nope"], "--nope"),
    ],
)
def test_a_bad_value_is_refused_in_the_words_of_the_command_line(
    penstock: Penstock, typed: list[str], says: str
) -> None:
    run = penstock(*typed)
    assert run.code == 2
    said = " ".join(run.err.replace("│", "").split())
    assert says in said
    assert "Value error" not in said


def test_a_priority_below_zero_and_a_share_in_per_cent(penstock: Penstock, stack: Stack) -> None:
    at = ("--url", stack.url)
    with Client(stack.url) as client:
        job = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=IDLE_MODEL)
    try:
        assert penstock("priority", job.id, "-5", *at).lines[0]["priority"] == -5
        changed = penstock("update", job.id, "--max-error-rate", "10%", *at)
        assert changed.lines[0]["max_error_rate"] == 0.1
    finally:
        assert penstock("cancel", job.id, *at).code == 0


def _is_group(verb: str) -> bool:
    return any(each.startswith(f"{verb} ".lstrip()) for each in golden_help.verbs() if each != verb)
