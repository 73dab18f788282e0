"""How a workflow that is tried looks on a terminal: its check, problems, plan. Knows no server."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from .cli_exit import EXIT_USAGE
from .cli_output import Printer
from .client_errors import BadRequest
from .wording import counted, short_number, short_time

_NO_TIME = (
    "unknown: no worker has been fully busy yet; --rate TOKENS_PER_S says what to reckon with"
)


def print_check(printer: Printer, found: Mapping[str, Any]) -> None:
    """Print what a check has found out about a workflow."""
    if printer.is_json:
        printer.json_line(found)
        return
    printer.table(
        ("step", "type", "from", "models", "rows"),
        (
            (
                step["id"],
                step["type"],
                ", ".join(step["from"]),
                ", ".join(step["models"]),
                _rows_of_one(step),
            )
            for step in found["steps"]
        ),
        longest=None,
    )
    if found["columns_known"]:
        made = [*((step["id"], step["columns"]) for step in found["steps"])]
        made.append(("output", found["output"]["columns"]))
        printer.facts(
            (name, ", ".join(f"{column} {kind}" for column, kind in columns.items()))
            for name, columns in made
        )
    for step in found["steps"]:
        at_most = step.get("max")  # an older server tells none
        if at_most and at_most == step.get("max_children"):
            one = "row matches" if step["type"] == "join" else "row becomes"
            printer.facts([("max", f"{step['id']}: a {one} {at_most:,} at most; `max` sets it")])
    for warning in found["warnings"]:
        printer.note(f"warning: {warning}")
    hint = "" if found["columns_known"] else "; --input NAME=PATH checks columns"
    printer.note(f"{found['name']} is sound{hint}")


def print_plan(printer: Printer, found: Mapping[str, Any]) -> None:
    """Print what a run is expected to take."""
    if printer.is_json:
        printer.json_line(found)
        return
    printer.table(
        ("step", "rows in", "rows out", "at most", "tokens in", "tokens out", "time"),
        (
            (
                step["id"],
                short_number(step["rows_in"]["estimate"]),
                _band(step["rows_out"]),
                short_number(step["at_most"]),
                _band(step["prompt_tokens"]),
                _band(step["completion_tokens"]),
                _time(step["seconds"]) if step["prompt_tokens"]["estimate"] else "",
            )
            for step in found["steps"]
        ),
    )
    total = found["total"]
    printer.facts(
        [
            ("tokens in", _band(total["prompt_tokens"])),
            ("tokens out", _band(total["completion_tokens"])),
            ("time", _NO_TIME if total["seconds"] is None else _time(total["seconds"])),
            *(("rests on", text) for text in found["rests_on"]),
        ]
    )


def print_problems(printer: Printer, file: Path, problems: Sequence[Mapping[str, Any]]) -> None:
    """Print everything that is wrong with a workflow, in the order in which it stands in its file.

    What stands nowhere, because it is missing or comes from the command line, is told last.
    """
    from .workflow_lines import WorkflowLines  # PyYAML is wanted only where there are problems

    lines = WorkflowLines.of(file)
    placed = [{**each, "line": lines.line_of(str(each.get("param")))} for each in problems]
    placed.sort(key=lambda each: each["line"] or math.inf)
    if printer.is_json:
        printer.json_line({"object": "workflow.check", "valid": False, "errors": placed})
    for problem in placed:
        place = "" if problem["line"] is None else f"{file}:{problem['line']}: "
        printer.note(f"{place}{problem.get('param')}: {problem.get('message')}")
    printer.note(f"{counted(len(problems), 'problem')}; nothing was run")


@contextmanager
def problems_told(printer: Printer, file: Path) -> Iterator[None]:
    """Print all that is wrong with the workflow of a file, not just the first of it.

    Raises:
        typer.Exit: the server has refused a workflow in the block.
    """
    try:
        yield
    except BadRequest as error:
        if not error.errors:
            raise
        print_problems(printer, file, error.errors)
        raise typer.Exit(EXIT_USAGE) from None


def _rows_of_one(step: Mapping[str, Any]) -> str:
    most = step.get("max_children") or 1  # an older server tells none
    bound = f"up to {most:,} of 1" if most > 1 else ""
    return ", ".join(filter(None, ("waits for all" if step["waits_for_all_rows"] else "", bound)))


def _band(band: Mapping[str, Any]) -> str:
    """Write a number that is not sure: 950, or 900 (800-1.0k)."""
    estimate, low, high = band["estimate"], band["low"], band["high"]
    if low == high:
        return short_number(estimate) if estimate else ""
    upper = "?" if high is None else short_number(high)
    return f"{short_number(estimate)} ({short_number(low)}-{upper})"


def _time(band: Mapping[str, Any] | None) -> str:
    if band is None:
        return ""
    estimate, low, high = band["estimate"], band["low"], band["high"]
    if high is not None and high < 1:
        return "under 1s"
    return f"{short_time(estimate)} ({short_time(low)}-{'?' if high is None else short_time(high)})"
