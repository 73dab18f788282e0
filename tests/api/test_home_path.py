"""A path in the home directory of nobody who is known: one clear error, wherever it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import Workflow
from penstock.api.client_errors import InvalidInput
from penstock.api.downloads import download_path
from penstock.api.home_path import at_home
from penstock.api.model_check import check_model
from penstock.api.out_directory import directory_of
from penstock.api.planner_models import find_shape
from penstock.api.workflow_trial import specified
from penstock.engine.model_place import ModelNotFound, resolve_model
from penstock.jobs.destination import destination
from penstock.jobs.errors import InvalidJob
from penstock.jobs.settings import InvalidSetting, Settings

from .command import Penstock

NOBODYS = "~nobody-of-that-name/flow.yaml"
TOLD = "no home directory is known of ~nobody-of-that-name"


@pytest.mark.parametrize(
    "read",
    [
        Workflow.load,
        specified,
        find_shape,
        check_model,
        directory_of,
        lambda path: download_path(path, "job_1"),
    ],
)
def test_it_is_refused_wherever_a_path_is_taken(read: Callable[[str], object]) -> None:
    with pytest.raises(InvalidInput, match=f"^cannot find {NOBODYS}: {TOLD}; write the path in "):
        read(NOBODYS)


def test_a_name_that_nobody_can_have_is_told_of_in_the_same_way() -> None:
    with pytest.raises(InvalidInput, match="no home directory is known of ~a\0b; write the path "):
        at_home("~a\0b/x")
    with pytest.raises(ModelNotFound, match="no home directory is known of ~a\0b; name a "):
        resolve_model("~a\0b/x")


@pytest.mark.parametrize("name", ["data", "results"])
def test_it_is_no_setting(name: str) -> None:
    flags: dict[str, Any] = {name: NOBODYS}
    with pytest.raises(InvalidSetting, match=rf"^{name} is '{NOBODYS}' \(from flag\): {TOLD}"):
        Settings.load(environ={}, **flags)


def test_no_rows_can_be_wanted_there() -> None:
    with pytest.raises(InvalidJob, match=f"^cannot find {NOBODYS}: {TOLD}") as caught:
        destination(Settings(), NOBODYS)
    assert caught.value.param == "output"


def test_no_model_lies_there() -> None:
    with pytest.raises(ModelNotFound, match=TOLD):
        resolve_model(NOBODYS)


def test_the_home_of_who_asks_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home("~/out") == tmp_path / "out"
    assert at_home(Path("a/~b")) == Path("a/~b")


@pytest.mark.parametrize(
    "command",
    [
        ("workflow", "validate", NOBODYS),
        ("workflow", "graph", NOBODYS),
        ("plan", "--model", NOBODYS),
        ("demo", "--out", NOBODYS),
        ("doctor", "--data", NOBODYS),
    ],
)
def test_a_verb_tells_of_it_in_one_line(penstock: Penstock, command: tuple[str, ...]) -> None:
    run = penstock(*command)
    assert (run.code, run.out) == (2, "")
    assert TOLD in run.err
