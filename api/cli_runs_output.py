"""How runs of workflows and their rows look on a terminal, and as JSON lines. Knows no server.

Lines of an input count from 1, as editors count them; the ids of rows count from 0.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from .cli_job_output import short_status
from .cli_output import Printer, cell
from .cli_value_text import value_text
from .run_progress import steps_table
from .wording import counted, short_time
from .workflow_records import RunRecord, StepRecord

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
    printer.table(names, ([value_text(line.get(name)) for name in names] for line in lines))


def _is_shown(name: str) -> bool:
    return not name.endswith(("__meta", "__error")) and name not in ("parent_id", "parents")
