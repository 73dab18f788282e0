"""The chain that one command has made: which end is taken up, and what `--again` puts behind it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from penstock.api.cli_chain import key_of_next, take_up
from penstock.api.cli_server import Server
from penstock.api.client import Client

from .command import Penstock, Run
from .conftest import MODEL, Stack
from .plain_workflows import WORKFLOW, rows as workflow_rows


@dataclass(frozen=True)
class Thing:
    id: str
    is_final: bool = True
    is_good: bool = False


class Shelf:
    """Makes things, each under its key; the next one is as it is told."""

    def __init__(self) -> None:
        self.by_key: dict[str, Thing] = {}
        self.next = Thing("")

    def make(self, key: str) -> Thing:
        made = Thing(f"t{len(self.by_key)}", self.next.is_final, self.next.is_good)
        return self.by_key.setdefault(key, made)

    def made_by(self, key: str) -> str | None:
        return self.by_key[key].id if key in self.by_key else None

    def end(self) -> str:
        return take_up("k", self.make, is_good=lambda each: each.is_good, made_by=self.made_by).id

    def again(self) -> str:
        return self.make(key_of_next("k", self.made_by)).id


def test_the_last_is_taken_up_whatever_became_of_those_before() -> None:
    shelf = Shelf()
    shelf.by_key["k"] = Thing("t0")  # which came to nothing
    shelf.next = Thing("", is_final=False)
    assert [shelf.end(), shelf.end()] == ["t1", "t1"]
    assert [shelf.again(), shelf.end()] == ["t2", "t2"]
    shelf.next = Thing("", is_good=True)
    assert [shelf.again(), shelf.end(), shelf.again(), shelf.end()] == ["t3", "t3", "t4", "t4"]


def test_the_first_may_be_one_that_was_to_be_another() -> None:
    shelf = Shelf()
    shelf.next = Thing("", is_final=False)
    assert [shelf.again(), shelf.end()] == ["t0", "t0"]


@pytest.fixture
def own(stack: Stack) -> Iterator[Stack]:
    """Give the stack as one that a verb has started for itself."""

    @contextmanager
    def server_for(*_: object) -> Iterator[Server]:
        yield Server(stack.url, stack)  # pyright: ignore[reportArgumentType] - it has settings, too

    with (
        patch("penstock.api.cli_run.server_for", server_for),
        patch("penstock.api.cli_workflow_run.server_for", server_for),
        patch.object(Server, "wait_until_ready"),
    ):
        yield stack


@pytest.mark.parametrize("noun", ["job", "run"])
def test_what_again_began_is_taken_up_by_the_command_without_it(
    penstock: Penstock, own: Stack, noun: str, tmp_path: Path
) -> None:
    file, texts = tmp_path / "said.json", tmp_path / "texts.jsonl"
    file.write_text(json.dumps(WORKFLOW))
    texts.write_text("".join(json.dumps(row) + "\n" for row in workflow_rows(2)))
    of_job = ("run", texts, "--prompt", "{{ row.text }}", "-m", MODEL)
    of_run = ("workflow", "run", file, "-i", texts)

    def give(*more: str) -> Run:
        verb = of_job if noun == "job" else of_run
        return penstock(*verb, "--out", tmp_path / "out", "--url", own.url, *more)

    [first] = give().lines
    with patch.object(Server, "wait_until_ready", side_effect=KeyboardInterrupt):
        left = give("--again")
    assert left.code == 130
    assert "The same command without --again goes on from here" in left.err
    with Client(own.url) as client:
        newest = (client.jobs if noun == "job" else client.workflows).list(limit=1)[0].id
    assert newest != first["id"]
    assert [give().lines[0]["id"] for _ in range(2)] == [newest, newest]
    assert give("--again").lines[0]["id"] not in (first["id"], newest)
