"""Runs with a stack of their own: what is looked at first, and what is left when none can begin."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from penstock import Workflow
from penstock.api import cli_run, cli_workflow_run
from penstock.api.cli_options import UsageProblem
from penstock.api.cli_server import Server
from penstock.api.client import Client
from penstock.api.client_errors import StackFailed
from penstock.api.local import LocalStack
from penstock.api.model_check import check_model
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings

from .command import Penstock
from .conftest import IDLE_MODEL, Stack
from .plain_workflows import WORKFLOW

NOWHERE = "http://127.0.0.1:9"


@dataclass
class OwnStack:
    """The tests' stack, as one that a command has started; `wait` is what its engines do."""

    url: str
    settings: Settings
    wait: Callable[[], None]

    def wait_until_ready(self) -> None:
        self.wait()


@pytest.fixture
def start(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    def starting(wait: Callable[[], None]) -> None:
        @contextmanager
        def server_for(*_: Any) -> Iterator[Server]:
            own = OwnStack(stack.url, stack.settings, wait)
            yield Server(stack.url, cast("LocalStack", own))

        for module in (cli_run, cli_workflow_run):
            monkeypatch.setattr(module, "server_for", server_for)

    return starting


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """A job and a run that no engine begins."""
    rows, file = tmp_path / "rows.jsonl", tmp_path / "flow.yaml"
    rows.write_text(json.dumps({"text": "x", "size": 1}) + "\n")
    idle = {**WORKFLOW, "steps": WORKFLOW["steps"][1:2], "output": {}}
    idle["steps"] = [{"id": "say", "type": "generate", "prompt": "{{ row.text }}"}]
    file.write_text(Workflow.from_dict({**idle, "defaults": {"model": IDLE_MODEL}}).to_yaml())
    here = ("--data", tmp_path / "data", "--out", tmp_path / "out")
    return {
        "job": ("run", rows, "--prompt", "{{ row.text }}", "-m", IDLE_MODEL, *here),
        "run": ("workflow", "run", file, "-i", rows, *here),
    }


def all_of(client: Client, what: str) -> set[str]:
    listed = client.jobs.list(limit=100) if what == "job" else client.workflows.list(limit=100)
    return {each.id for each in listed}


@pytest.mark.parametrize("what", ["job", "run"])
def test_what_no_engine_will_begin_is_taken_back(
    penstock: Penstock,
    stack: Stack,
    start: Callable[..., None],
    commands: dict[str, tuple[object, ...]],
    what: str,
) -> None:
    begun: set[str] = set()

    def wait() -> None:
        begun.update(all_of(client, what) - before)
        raise StackFailed("there is no such model; name one that exists")

    start(wait)
    with Client(stack.url) as client:
        before = all_of(client, what)
        run = penstock(*commands[what])
        assert (run.code, run.out) == (1, "")
        assert "there is no such model; name one that exists" in run.err
        assert len(begun) == 1
        assert all_of(client, what) == before


@pytest.mark.parametrize("what", ["job", "run"])
def test_what_pauses_where_nobody_looks_on_says_how_it_goes_on(
    penstock: Penstock,
    stack: Stack,
    start: Callable[..., None],
    commands: dict[str, tuple[object, ...]],
    what: str,
) -> None:
    paused: list[Any] = []

    def wait() -> None:
        [begun] = all_of(client, what) - before
        each = (client.jobs if what == "job" else client.workflows).get(begun)
        paused.append(each.pause())

    start(wait)
    with Client(stack.url) as client:
        before = all_of(client, what)
        run = penstock(*commands[what])
        [left] = paused
        left.cancel()
    assert (run.code, run.lines[-1]["status"]) == (5, JobState.PAUSED)
    up = f"penstock up --data {stack.settings.data_dir} --model "
    assert f"paused: somebody wanted it. {up}" in run.err
    assert f", then penstock resume {left.id}  lets it go on" in run.err


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("file/below", "choose another --out"),
        ("~nobody-of-that-name/out", "no home directory is known of ~nobody-of-that-name"),
    ],
)
@pytest.mark.parametrize("what", ["job", "run"])
def test_a_place_for_rows_is_tried_before_anything_is_asked(
    penstock: Penstock,
    tmp_path: Path,
    commands: dict[str, tuple[object, ...]],
    what: str,
    place: str,
    says: str,
) -> None:
    (tmp_path / "file").write_text("")
    out = place if place.startswith("~") else tmp_path / place
    run = penstock(*commands[what][:-2], "--out", out, "--url", NOWHERE)
    assert (run.code, run.out) == (2, "")
    assert says in run.err


def test_a_relative_place_is_of_the_directory_one_is_in(
    penstock: Penstock,
    stack: Stack,
    start: Callable[..., None],
    commands: dict[str, tuple[object, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs: list[str] = []

    def wait() -> None:
        [begun] = all_of(client, "run") - before
        outputs.append(client.workflows.get(begun).output_path or "")
        raise StackFailed("enough")

    start(wait)
    monkeypatch.chdir(tmp_path)
    with Client(stack.url) as client:
        before = all_of(client, "run")
        penstock(*commands["run"][:-2], "--out", "some/where")
    assert [Path(each).parent for each in outputs] == [tmp_path / "some" / "where"]


def test_a_missing_input_of_a_workflow_starts_nothing(
    penstock: Penstock, commands: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").unlink()
    run = penstock(*commands["run"])
    assert run.code == 2
    assert "rows.jsonl: No such file" in run.err
    assert not (tmp_path / "data").exists()


class TestModels:
    @pytest.mark.parametrize("what", ["job", "run"])
    def test_one_that_is_not_there_starts_nothing(
        self,
        penstock: Penstock,
        commands: dict[str, tuple[object, ...]],
        tmp_path: Path,
        what: str,
    ) -> None:
        if what == "run":
            file = tmp_path / "flow.yaml"
            file.write_text(file.read_text().replace(IDLE_MODEL, "./no-model"))
            run = penstock(*commands["run"])
        else:
            run = penstock(*commands["job"], "-m", "./no-model")
        assert run.code == 2
        assert "there is no model at ./no-model: name a directory that exists" in run.err
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize(
        ("files", "says"),
        [
            ({"config.json": "{"}, r"cannot read .*config\.json: .*; fetch the model again"),
            ({"config.json": "[]"}, "names no architecture"),
            ({"config.json": "{}"}, "names no architecture"),
            ({"notes.txt": ""}, r"holds no config\.json, and not one GGUF file"),
            ({"a.gguf": "GGUF", "b.gguf": "GGUF"}, "not one GGUF file"),
        ],
    )
    def test_a_directory_that_is_none(
        self, tmp_path: Path, files: dict[str, str], says: str
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(UsageProblem, match=says):
            check_model(str(tmp_path))

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("gone.gguf", "there is no model at"),
            ("rows.gguf", "is no GGUF file"),
            ("a/b/c", "there is no model at"),
        ],
    )
    def test_a_place_that_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
    ) -> None:
        (tmp_path / "rows.gguf").write_text("{}")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageProblem, match=says):
            check_model(name)

    def test_what_may_be_served_is_let_through(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        (tmp_path / "model.gguf").write_bytes(b"GGUF\x03")
        for name in (tmp_path, tmp_path / "model.gguf", "org/model", "gpt2", "penstock-demo"):
            check_model(str(name))
