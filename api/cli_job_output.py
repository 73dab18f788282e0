"""How bulk jobs and their rows look on a terminal, and as JSON lines. Knows no server.

Lines of an input count from 1, as editors count them; rows count from 0, as `row_index` does.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from ..jobs.model import Counts, JobState
from .cli_output import Printer, short_vector
from .job_errors import REJECTED_LINE
from .records import JobRecord, Row
from .wording import counted, short_number, short_time

_CODES_SHOWN = 5
_SHORT_ERRORS = "errors"
_UNPARSED = "not the document that was asked for, as where max_tokens cut it short"
_SPARE = ("model", "created", "name", "took", "rejected")  # of jobs: the first goes first


def print_jobs(printer: Printer, records: Iterable[JobRecord]) -> None:
    """Print jobs, one on a line."""
    if printer.is_json:
        for record in records:
            printer.json_line(record.raw)
        return
    lines = [_job_cells(record) for record in records]
    columns = [
        column
        for column in ("id", "name", "status", "model", "rows", "rejected", "created", "took")
        if column not in ("name", "rejected") or any(line[column] for line in lines)
    ]
    printer.table(
        columns,
        ([line[column] for column in columns] for line in lines),
        unbroken=("status", "rows", "rejected", "created", "took"),
        too_long="ellipsis",
        spare=_SPARE,
    )


def print_job(printer: Printer, record: JobRecord) -> None:
    """Print all about one job."""
    if printer.is_json:
        printer.json_line(record.raw)
        return
    counts, usage = record.counts, record.usage
    printer.facts(
        [
            ("job", record.id),
            ("name", record.name),
            ("status", ", ".join(filter(None, (str(record.status), _rejected(record))))),
            *([("because", record.status_reason)] if record.status_reason else []),
            ("model", record.model),
            *(("tag", f"{name}={value}") for name, value in record.metadata.items()),
            ("rows", f"{counts.succeeded + counts.failed:,} of {counts.total:,} landed"),
            ("failed", _failed(record)),
            *([("unparsed", f"{counts.unparsed:,} ({_UNPARSED})")] if counts.unparsed else []),
            *([("not run", counts.not_run)] if counts.not_run else []),
            ("rejected lines", counts.rejected),
            ("tokens", f"{usage.prompt_tokens:,} in, {usage.completion_tokens:,} out"),
            ("took", _took(record)),
            *([("deadline", record.deadline.astimezone())] if record.deadline else []),
            *([("retry of", record.retry_of)] if record.retry_of else []),
            ("output", record.output_path),
            ("error", record.error),
        ]
    )


def print_job_rows(printer: Printer, rows: Iterable[Row]) -> None:
    """Print landed rows."""
    if printer.is_json:
        for row in rows:
            printer.json_line(row)
        return
    lines = [_row_cells(row) for row in rows]
    has_samples = any(line["sample"] for line in lines)
    columns = [
        column
        for column in ("row", "sample", "id", "status", "output", "tokens")
        if column != "sample" or has_samples
    ]
    printer.table(columns, ([line[column] for column in columns] for line in lines))


def print_job_errors(printer: Printer, errors: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of rejected lines and failed rows, with all that is said about each."""
    if errors:
        printer.table(
            ("where", "id", "code", "message"),
            map(_error_cells, errors),
            unbroken=("code",),
            longest=None,
        )
    else:
        printer.note("no line was rejected, and no row has failed")


def tell_unparsed(printer: Printer, counts: Counts) -> None:
    """Note answers that are no JSON where no row failed: they are no errors, nor retried."""
    if counts.unparsed and not counts.failed:
        answers = counted(counts.unparsed, "answer")
        printer.note(f"{answers} could not be read as JSON: a larger max_tokens may help")


def short_status(status: JobState) -> str:
    """Write a state so that it leaves room for others."""
    return _SHORT_ERRORS if status is JobState.COMPLETED_WITH_ERRORS else str(status)


def state_of(text: str) -> JobState:
    """Read a state as `short_status` or the server writes it.

    Raises:
        typer.BadParameter: there is no such state; the message names all.
    """
    if text == _SHORT_ERRORS:
        return JobState.COMPLETED_WITH_ERRORS
    if text not in set(JobState):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(JobState)}")
    return JobState(text)


def place_of(error: Mapping[str, Any]) -> str:
    """Say which line of the input was rejected, or which row failed."""
    if "row_index" not in error:
        return f"line {error.get('line')}"
    sample = error.get("sample_index")
    return f"row {error['row_index']}" + (f", sample {sample}" if sample else "")


def tokens_per_s(record: JobRecord) -> float | None:
    """Give a job's mean rate of written tokens."""
    duration_s = record.duration_s
    return record.usage.completion_tokens / duration_s if duration_s else None


def summary(record: JobRecord) -> str:
    """Say in one line how a job ended."""
    counts = record.counts
    parts = [f"{record.id} {record.status}", counted(counts.succeeded, "row")]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.unparsed:
        parts.append(f"{counts.unparsed:,} unparsed")
    if counts.rejected:
        parts.append(_rejected(record))
    if record.duration_s:
        parts.append(_took(record))
    rate = tokens_per_s(record)
    if rate:
        parts.append(f"{short_number(rate)} tok/s")
    return " · ".join(parts)


def _failed(record: JobRecord) -> str:
    """Count failed rows, and their most frequent errors."""
    top = sorted(record.errors_by_code.items(), key=lambda item: -item[1])[:_CODES_SHOWN]
    codes = ", ".join(f"{code} {count:,}" for code, count in top)
    return f"{record.counts.failed:,}" + (f" ({codes})" if codes else "")


def _rejected(record: JobRecord) -> str:
    """Count the lines of the input that became no rows."""
    rejected = record.counts.rejected
    return f"{counted(rejected, 'line')} rejected" if rejected else ""


def _took(record: JobRecord) -> str:
    return "" if record.duration_s is None else short_time(record.duration_s)


def _job_cells(record: JobRecord) -> dict[str, Any]:
    counts = record.counts
    done = counts.succeeded + counts.failed
    return {
        "id": record.id,
        "name": record.name,
        "status": short_status(record.status),
        "model": record.model,
        "rows": f"{done:,}/{counts.total:,}",
        "rejected": counted(counts.rejected, "line") if counts.rejected else None,
        "created": _short_date(record.created_at),
        "took": _took(record),
    }


def _short_date(at: datetime | None) -> str:
    """Give the time of today's, the day of others."""
    if at is None:
        return ""
    at = at.astimezone()
    return at.strftime("%H:%M" if at.date() == datetime.now().astimezone().date() else "%m-%d")


def _row_cells(row: Row) -> dict[str, Any]:
    return {
        "row": row.get("row_index"),
        "sample": row.get("sample_index"),
        "id": row.get("custom_id"),
        "status": row.get("status"),
        "output": _said(row) if row.succeeded else (row.error or {}).get("message"),
        "tokens": row.get("completion_tokens"),
    }


def _said(row: Row) -> str | None:
    """Give the answer; of a vector, how it begins and how long it is."""
    vector = row.get("embedding")
    return short_vector(vector) if vector else row.output


def _error_cells(error: Mapping[str, Any]) -> tuple[Any, ...]:
    if "row_index" not in error:
        return place_of(error), None, REJECTED_LINE, error.get("message")
    said = error["error"] or {}
    return place_of(error), error.get("custom_id"), said.get("code"), said.get("message")
