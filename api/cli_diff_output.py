"""How `penstock diff` looks: rows that differ, word by word, and the sums of both sides."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.padding import Padding
from rich.text import Text

from .cli_output import Printer, cell, harmless
from .records import JobRecord
from .row_diff import Row, RowChange, RowDiff, code_of, said_columns
from .row_metrics import text_of
from .word_diff import word_diff
from .wording import short_time
from .workflow_records import RunRecord

_STYLES = {"removed": "red strike", "added": "green"}
_MARKS = {"removed": ("[-", "-]"), "added": ("{+", "+}"), "same": ("", "")}
_LONGEST = 300  # characters of what only one side has


def change_object(change: RowChange) -> dict[str, Any]:
    """Give a row that differs as an object, with all that both sides say of it."""
    facts: dict[str, Any] = {"object": "diff.row", "change": change.kind, "key": change.key}
    if change.kind == "changed":
        facts["likeness"] = change.likeness
    return {**facts, "a": change.a, "b": change.b}


def print_changes(printer: Printer, found: RowDiff, limit: int) -> None:
    """Show the first rows that differ; the others are counted."""
    for number, change in enumerate(found):
        if number < limit:
            printer.out.print(_heading(change))
            for line in _lines(change, found.columns):
                printer.out.print(Padding(line, (0, 0, 0, 2)))
    num_changes = found.changed + found.only_in_a + found.only_in_b
    if num_changes > limit:
        printer.note(f"… and {num_changes - limit:,} more: --limit N shows them, a pipe gets all")


def _heading(change: RowChange) -> Text:
    what = {"changed": "", "only_in_a": " only in A", "only_in_b": " only in B"}[change.kind]
    alike = f" {change.likeness:.0%} alike" if change.likeness else ""
    return Text.assemble("row ", cell(change.key), what, alike, style="bold")


def _lines(change: RowChange, columns: Sequence[str] | None) -> Iterator[Text]:
    """Write what a row said, and what it says now."""
    if change.a is None or change.b is None:
        yield cell(_told(change.a or change.b or {}, columns), _LONGEST)
        return
    if code_of(change.a) or code_of(change.b):  # one of them has no words to be compared
        for mark, row, style in (("-", change.a, "red"), ("+", change.b, "green")):
            line = cell(f"{mark} {_told(row, columns)}", _LONGEST)
            line.stylize(style)
            yield line
        return
    for column in columns or said_columns(change.a, change.b):
        before, after = (text_of(row.get(column)) for row in (change.a, change.b))
        if before != after:
            name = f"{column}: " if columns is None or len(columns) > 1 else ""
            yield Text.assemble((name, "cyan"), _word_diff(before, after))


def _word_diff(before: str, after: str) -> Text:
    line = Text()
    for kind, text in word_diff(before, after):
        opening, closing = _MARKS[kind]
        line.append_text(Text(f"{opening}{_in_line(text)}{closing}", style=_STYLES.get(kind, "")))
    return line


def _in_line(text: str) -> str:
    return harmless(text.replace("\n", "⏎"))


def _told(row: Row, columns: Sequence[str] | None) -> str:
    """Say what came of a row: its error, or its first column."""
    code = code_of(row)
    if code is not None:
        return f"failed: {code}: {(row.get('error') or {}).get('message') or ''}"
    return text_of(row.get((columns or said_columns(row, row) or [""])[0]))


def print_sums(printer: Printer, found: RowDiff, records: Sequence[JobRecord | RunRecord]) -> None:
    """Show both sides' sums beside each other, and how many rows differ."""
    a, b = found.a, found.b
    lines: list[Sequence[Any]] = [
        ("id", *(record.id for record in records)),
        ("status", *(str(record.status) for record in records)),
        ("model", *(_model(record) for record in records)),
        ("rows", a.rows, b.rows),
        ("failed", a.failed, b.failed),
    ]
    usages = [record.usage for record in records]
    lines.append(("tokens in", *(usage.prompt_tokens for usage in usages)))
    lines.append(("tokens out", *(usage.completion_tokens for usage in usages)))
    lines.append(("took", *(_took(record.duration_s) for record in records)))
    for share in (0.5, 0.95):
        name, times = f"latency p{100 * share:.0f}", [each.latency_ms(share) for each in (a, b)]
        lines += [(name, *map(_milliseconds, times))] if any(times) else []
    printer.out.print()
    printer.table(("", "A", "B"), lines, longest=None)
    printer.out.print()
    printer.facts(
        [
            ("same", _share(found.same, found)),
            ("changed", _share(found.changed, found)),
            ("only in A", found.only_in_a),
            ("only in B", found.only_in_b),
            *(
                (name, ", ".join(f"{code} {count:,}" for code, count in errors.most_common()))
                for name, errors in (
                    ("errors gone", found.errors_gone),
                    ("errors new", found.errors_new),
                    ("errors in both", found.errors_in_both),
                )
                if errors
            ),
        ]
    )


def _share(number: int, found: RowDiff) -> str:
    num_pairs = found.same + found.changed
    return f"{number:,}" + (f" ({number / num_pairs:.1%})" if num_pairs else "")


def _milliseconds(time_ms: float | None) -> str:
    return "" if time_ms is None else f"{time_ms:,.0f} ms"


def _took(duration_s: float | None) -> str:
    return "" if duration_s is None else short_time(duration_s)


def _model(record: JobRecord | RunRecord) -> str:
    return record.model if isinstance(record, JobRecord) else record.workflow
