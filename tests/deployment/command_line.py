"""Reads commands as `penstock` would, without running them."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import typer.main

from penstock.api.cli import make_app
from penstock.jobs.settings import Settings

VARIABLES = frozenset(item.metadata["env"] for item in fields(Settings))


def parsed(command: str | Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return a command's verb and options; fails on what the command line would refuse."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    assert words[0] == "penstock", words
    group: Any = typer.main.get_command(make_app())
    context = group.make_context("penstock", words[1:], resilient_parsing=True)
    name, verb, rest = group.resolve_command(context, words[1:])
    return name, verb.make_context(name, rest).params


def seconds(text: str | int) -> int:
    """Read a duration as compose and Kubernetes write it."""
    if isinstance(text, int):
        return text
    units = {"s": 1, "m": 60, "h": 3600}
    found = re.fullmatch(r"(\d+)([smh])", text)
    assert found is not None, text
    return int(found[1]) * units[found[2]]
