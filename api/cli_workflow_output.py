"""How workflows look on a terminal: their checks, trials, runs and rows. Knows no server."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from .cli_output import Printer, cell, short_status, short_vector
from .client_errors import BadRequest
from .run_progress import steps_table
from .wording import counted, short_number, short_time
from .workflow_records import RunRecord, StepRecord

EXIT_USAGE = 2
_SHORT = 500  # characters of a prompt or an answer
_NO_TIME = (
    "unknown: no worker has been fully busy yet; --rate TOKENS_PER_S says what to reckon with"
)
_VECTOR = 8  # numbers that nobody reads one by one
_LINES_SHOWN = 5  # of those that were rejected
_KINDS_SHOWN = 20  # of errors: those that are alike but for their row
_PLACES_SHOWN = 5  # of each kind


def print_run(printer: Printer, record: RunRecord) -> None:
    """Print all about one run."""
    if printer.is_json:
        printer.json_line(record.raw)
        return
    usage = record.usage
    printer.facts(
        [
            ("run", record.id),
            ("workflow", record.workflow),
            *([("name", record.name)] if record.name else []),
            ("status", str(record.status)),
            *([("because", record.status_reason)] if record.status_reason else []),
            ("rows", f"{record.input_rows:,} in, {record.output_rows:,} out"),
            *([("rejected lines", record.rejected)] if record.rejected else []),
            *([("priority", record.priority)] if record.priority else []),
            *([("retries", record.retry_of)] if record.retry_of else []),
            ("tokens", f"{usage.prompt_tokens:,} in, {usage.completion_tokens:,} out"),
            ("took", "" if record.duration_s is None else short_time(record.duration_s)),
            ("output", record.output_path),
            *([("error", record.error)] if record.error else []),
        ]
    )
    printer.out.print(steps_table(record))
    for line in record.rejected_lines[:_LINES_SHOWN]:
        printer.note(f"inputs.{line.input} line {line.line} rejected: {cell(line.message, 200)}")
    for step in record.steps:
        for code, count in sorted(step.errors_by_code.items(), key=lambda item: -item[1]):
            printer.note(f"{step.id}: {code} {count:,}{_first_of(step, code)}")


def print_errors(printer: Printer, errors: Iterable[Mapping[str, Any]]) -> int:
    """Print what went wrong: each on a line for programs, for people what is alike as one.

    Returns how many there were.
    """
    num_errors = 0
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for error in errors:
        num_errors += 1
        if printer.is_json:
            printer.json_line(error)
        else:
            where, place = _place_of(error)
            said = (str(error.get(name) or "") for name in ("code", "message", "outcome"))
            places[where, *said].append(place)
    if places:
        often = sorted(places.items(), key=lambda group: -len(group[1]))
        for (where, code, message, outcome), found in often[:_KINDS_SHOWN]:
            first = ", ".join(found[:_PLACES_SHOWN]) + (", …" if found[_PLACES_SHOWN:] else "")
            facts = [("code", code), ("message", message), ("outcome", outcome), ("first", first)]
            printer.heading(f"{where}: {counted(len(found), 'error')}")
            printer.facts((name, text) for name, text in facts if text)
        if len(often) > _KINDS_SHOWN:
            printer.note(f"the {_KINDS_SHOWN} most frequent of {len(often):,} kinds")
    return num_errors


def _place_of(error: Mapping[str, Any]) -> tuple[str, str]:
    """Name the step or the input, and the row or the line there."""
    if "line" in error:
        return f"inputs.{error['input']}", f"line {error['line']}"
    return str(error.get("step", "")), f"row {error.get('row_id', '')}"


def _first_of(step: StepRecord, code: str) -> str:
    """Tell the first fault of a kind in words."""
    for error in step.errors:
        if error.get("code") == code:
            return f", the first in row {error.get('row_id')}: {error.get('message')}"
    return ""


def print_runs(printer: Printer, records: Iterable[RunRecord]) -> None:
    """Print runs, one on a line."""
    if printer.is_json:
        for record in records:
            printer.json_line(record.raw)
        return
    printer.table(
        ("id", "workflow", "status", "steps", "in", "out", "took"),
        (
            (
                record.id,
                record.workflow + (" (trial)" if record.raw.get("is_preview") else ""),
                short_status(record.status),
                f"{sum(step.state == 'completed' for step in record.steps)}/{len(record.steps)}",
                record.input_rows,
                record.output_rows,
                "" if record.duration_s is None else short_time(record.duration_s),
            )
            for record in records
        ),
        unbroken=("workflow", "status", "steps", "in", "out", "took"),
        too_long="ellipsis",
        spare=("steps", "in", "out", "took"),
    )


def run_summary(record: RunRecord) -> str:
    """Say in one line how a run ended."""
    parts = [f"{record.id} {record.status}", counted(record.output_rows, "row")]
    if record.num_failed:
        parts.append(f"{record.num_failed:,} failed")
    if defaulted := sum(step.defaulted for step in record.steps):
        parts.append(f"{defaulted:,} defaulted")
    if record.rejected:
        parts.append(f"{counted(record.rejected, 'line')} rejected")
    if record.duration_s:
        parts.append(short_time(record.duration_s))
    return " · ".join(parts)


def print_rows(printer: Printer, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows of a step or of the output, with all their columns."""
    if printer.is_json:
        for row in rows:
            printer.json_line(row)
        return
    lines = list(rows)
    names = [name for name in (lines[0] if lines else {}) if _is_shown(name)]
    printer.table(names, ([_text(line.get(name)) for name in names] for line in lines))


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


def print_preview(printer: Printer, found: Mapping[str, Any]) -> None:
    """Print what each step did for the first rows."""
    if printer.is_json:
        printer.json_line(found)
        return
    progress = {step["id"]: step for step in found["run"]["steps"]}
    for step in found["steps"]:
        rows = progress[step["id"]]["rows"]
        dropped = f", {rows['dropped']} dropped" if rows["dropped"] else ""
        failed = f", {rows['failed']} failed" if rows["failed"] else ""
        printer.heading(
            f"{step['id']} ({step['type']}): {rows['in']} in, {rows['out']} out{dropped}{failed}"
        )
        told = [(trace["row_id"], _trace_facts(trace)) for trace in step["rows"]]
        for row_id, facts in told:
            if facts:
                printer.facts([("row", row_id), *facts])
        if kept := [row_id for row_id, facts in told if not facts]:
            printer.facts([("rows" if len(kept) > 1 else "row", ", ".join(kept))])
        for error in progress[step["id"]].get("errors") or ():
            told = f"{error['code']}: {error['message']}"
            printer.facts([("row", error["row_id"]), ("failed", told)])


def print_trace(printer: Printer, steps: Sequence[Mapping[str, Any]]) -> None:
    """Print the history of a row."""
    if printer.is_json:
        for trace in steps:
            printer.json_line(trace)
        return
    for trace in steps:
        printer.heading(f"{trace['step']}  {trace['row_id']}")
        printer.facts(_trace_facts(trace))


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


def print_problems(printer: Printer, problems: Sequence[Mapping[str, Any]]) -> None:
    """Print everything that is wrong with a workflow."""
    if printer.is_json:
        printer.json_line({"object": "workflow.check", "valid": False, "errors": list(problems)})
    for problem in problems:
        printer.note(f"{problem.get('param')}: {problem.get('message')}")
    printer.note(f"{counted(len(problems), 'problem')}; nothing was run")


@contextmanager
def problems_told(printer: Printer) -> Iterator[None]:
    """Print all that is wrong with a workflow, not just the first of it.

    Raises:
        typer.Exit: the server has refused a workflow in the block.
    """
    try:
        yield
    except BadRequest as error:
        if not error.errors:
            raise
        print_problems(printer, error.errors)
        raise typer.Exit(EXIT_USAGE) from None


def _trace_facts(trace: Mapping[str, Any]) -> list[tuple[str, Any]]:
    facts = []
    answers = trace.get("answers") or []
    for number, request in enumerate(trace.get("requests") or []):
        facts += [("asked", cell(text, _SHORT)) for text in prompts_of(request)]
        if number < len(answers) and (said := _answer_text(answers[number])) is not None:
            facts.append(("answered", cell(said, _SHORT)))
    if trace.get("parents"):
        facts.append(("made of", ", ".join(trace["parents"][:10])))
    if trace.get("value") is not None:
        facts.append(("value", cell(_text(trace["value"]), _SHORT)))
    return facts


def prompts_of(request: Mapping[str, Any]) -> list[str]:
    """Give the texts of a request, as the model was given them."""
    if "messages" in request:
        return [f"{each.get('role')}: {each.get('content')}" for each in request["messages"]]
    return [str(request.get("prompt", request.get("input", "")))]


def _answer_text(answer: Any) -> str | None:
    """Give what was answered; None where that is a vector, which is the value as well."""
    if not isinstance(answer, Mapping):
        return str(answer)
    error = answer.get("error")
    if error:
        return f"failed: {error.get('message') if isinstance(error, Mapping) else error}"
    return answer.get("text")


def _is_shown(name: str) -> bool:
    return not name.endswith(("__meta", "__error")) and name not in ("parent_id", "parents")


def _text(value: Any) -> Any:
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items())
    if isinstance(value, list) and len(value) >= _VECTOR:
        numbers = [number for number in value if isinstance(number, float)]
        return short_vector(numbers) if len(numbers) == len(value) else value
    return value


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
