"""How the command line prints: tables for people, JSON lines for programs. Knows no server.

Results go to stdout, everything said about them to stderr, so that a pipe carries data only.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..jobs.model import JobState
from .records import JobRecord, Row
from .wording import counted, short_number, short_time

_SHORT = 60  # characters of a text in a cell
_WHOLE = 40  # columns of a table's first column that are never taken from it
_CODES_SHOWN = 5
_SHORT_ERRORS = "errors"
_NARROWEST = 10  # columns that a text which may be cut still has
_GAP = 2  # between columns
_SPARE = ("model", "created", "name", "took", "rejected")  # of jobs: the first goes first
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a terminal would obey; not \t and \n


class OutputFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


class Printer:
    """Prints to one pair of streams in one format."""

    def __init__(self, wanted: OutputFormat | None = None) -> None:
        self.out = Console(highlight=False)
        self.err = Console(stderr=True, highlight=False)
        automatic = OutputFormat.TABLE if sys.stdout.isatty() else OutputFormat.JSON
        self.format = wanted or automatic

    @property
    def is_json(self) -> bool:
        """Whether a program reads along."""
        return self.format is OutputFormat.JSON

    @property
    def has_onlooker(self) -> bool:
        """Whether a person may read what is noted, and do something about it."""
        return self.err.file.isatty()

    def json_line(self, data: Mapping[str, Any]) -> None:
        """Print one object on one line."""
        sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something to the person beside the results."""
        self.err.print(harmless(text), markup=False, soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        unbroken: Sequence[str] = (),
        too_long: Literal["fold", "ellipsis"] = "fold",
        longest: int | None = _SHORT,
        spare: Sequence[str] = (),
    ) -> None:
        """Print a table; numbers stand on the right, `unbroken` columns stay on one line.

        The first column is never cut. `spare` columns are left out, one by one, where not all have
        room.
        """
        table = Table(box=None, header_style="bold", pad_edge=False)
        lines = [list(row) for row in rows]
        for column in spare:
            if column in columns and self._needs(columns, lines, unbroken) > self.out.width:
                left_out = list(columns).index(column)
                columns = [each for each in columns if each != column]
                for line in lines:
                    del line[left_out]
        for index, column in enumerate(columns):
            is_number = bool(lines) and all(isinstance(row[index], int | float) for row in lines)
            is_first = index == 0  # what one wants to copy
            longest_id = max((cell(row[0]).cell_len for row in lines), default=0)
            table.add_column(
                column,
                min_width=min(longest_id, _WHOLE) if is_first else None,
                justify="right" if is_number else "left",
                overflow=too_long,
                no_wrap=is_first or column in unbroken,
            )
        for row in lines:
            cells = [cell(value, longest) for value in row]
            for each in cells:
                each.no_wrap = True if too_long == "ellipsis" else None
            table.add_row(*cells)
        self.out.print(table)

    @staticmethod
    def _needs(
        columns: Sequence[str], lines: Sequence[Sequence[Any]], unbroken: Sequence[str]
    ) -> int:
        """Give the width at which no word that must stay whole is cut."""
        needs = 0
        for index, column in enumerate(columns):
            longest = max(len(column), *(cell(line[index]).cell_len for line in lines), 0)
            may_be_cut = index > 0 and column not in unbroken
            needs += (min(longest, _NARROWEST) if may_be_cut else longest) + _GAP
        return needs - 1  # which stands behind the last one

    def heading(self, text: str) -> None:
        """Print a heading with room above it."""
        self.out.print(Text(f"\n{text}", style="bold"))

    def facts(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Print names and values, one pair on a line."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            grid.add_row(name, cell(value, None))
        self.out.print(grid)

    def jobs(self, records: Iterable[JobRecord]) -> None:
        """Print jobs, one on a line."""
        if self.is_json:
            for record in records:
                self.json_line(record.raw)
            return
        lines = [_job_cells(record) for record in records]
        columns = [
            column
            for column in ("id", "name", "status", "model", "rows", "rejected", "created", "took")
            if column not in ("name", "rejected") or any(line[column] for line in lines)
        ]
        self.table(
            columns,
            ([line[column] for column in columns] for line in lines),
            unbroken=("status", "rows", "rejected", "created", "took"),
            too_long="ellipsis",
            spare=_SPARE,
        )

    def job(self, record: JobRecord) -> None:
        """Print all about one job."""
        if self.is_json:
            self.json_line(record.raw)
            return
        counts, usage = record.counts, record.usage
        self.facts(
            [
                ("job", record.id),
                ("name", record.name),
                ("status", ", ".join(filter(None, (str(record.status), _rejected(record))))),
                *([("because", record.status_reason)] if record.status_reason else []),
                ("model", record.model),
                ("rows", f"{counts.succeeded + counts.failed:,} of {counts.total:,} landed"),
                ("failed", _failed(record)),
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

    def rows(self, rows: Iterable[Row]) -> None:
        """Print landed rows."""
        if self.is_json:
            for row in rows:
                self.json_line(row)
            return
        lines = [_row_cells(row) for row in rows]
        has_samples = any(line["sample"] for line in lines)
        columns = [
            column
            for column in ("row", "sample", "id", "status", "output", "tokens")
            if column != "sample" or has_samples
        ]
        self.table(columns, ([line[column] for column in columns] for line in lines))

    def errors(self, errors: Iterable[Mapping[str, Any]]) -> None:
        """Print rejected lines and failed rows, with all that is said about each."""
        self.table(
            ("where", "id", "code", "message"),
            map(_error_cells, errors),
            unbroken=("code",),
            longest=None,
        )


def cell(value: Any, longest: int | None = _SHORT) -> Text:
    """Write a value into a table: nothing for None, one line, not too long."""
    if value is None:
        return Text("")
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    text = harmless(" ".join(text.split()))
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return Text(text)


def short_vector(vector: Sequence[float]) -> str:
    """Write how a vector begins, and how long it is."""
    first = ", ".join(f"{number:.3g}" for number in vector[:3])
    return f"[{first}, …] {counted(len(vector), 'number')}"


def harmless(text: str) -> str:
    """Take away what a terminal would obey instead of showing it."""
    return _CONTROL.sub("�", text)


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
    said = error.get("error") or error  # a rejected line carries its code and message itself
    return place_of(error), error.get("custom_id"), said.get("code"), said.get("message")
