"""How a dry run is printed: a table of facts, then what is wrong and where. Knows no server."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .cli_output import Printer
from .validation_record import JobValidation
from .wording import counted, short_time

_PROBLEMS_SHOWN = 10  # of each kind
_LINES_NAMED = 5


def print_validation(printer: Printer, found: JobValidation) -> None:
    """Print what a dry run has found."""
    if printer.is_json:
        printer.json_line(found.raw)
    else:
        printer.facts(_facts(found))
        problems = list(_problems(found))
        if problems:
            printer.heading("what is wrong")
            columns = ("where", "what", "how many")
            # A message ends with its remedy, so it stays whole.
            printer.table(columns, problems, unbroken=("how many",), longest=None)
        repeats = list(_repeats(found))
        if repeats:
            printer.heading("what is there twice")
            printer.table(("where", "what", "as in"), repeats)
    for text in found.unchecked:
        printer.note(f"not checked: {text}")
    if not printer.is_json:
        for text in found.raw.get("rests_on") or ():
            printer.note(f"rests on {text}" if text[:1].isdigit() else text)
    if found.stopped is not None:
        printer.note(f"not all was read: {found.stopped}")


def _facts(found: JobValidation) -> Iterator[tuple[str, Any]]:
    raw = found.raw
    yield "model", raw.get("model")
    yield "rows", f"{found.rows:,}" + ("" if found.complete else " so far")
    yield "bad lines", found.num_bad_lines
    yield "rows in error", found.num_row_errors
    if found.input_tokens is not None:
        yield "over the context", _too_long(raw.get("too_long") or {})
    yield "duplicates", _repeated(raw.get("duplicates") or {}, found.rows)
    if found.num_duplicate_ids:
        yield "duplicate ids", found.num_duplicate_ids
    yield "input tokens", _input_tokens(found)
    yield "output tokens", _output_tokens(found)
    if found.reused_share is not None:
        yield "prefix reuse", _reuse(raw["prefix_reuse"], found)
    yield "time", _time(found.seconds)


def _problems(found: JobValidation) -> Iterator[tuple[str, str, int | str]]:
    """Yield what keeps rows, or all of them, from being answered."""
    raw = found.raw
    if found.refusal is not None:
        yield "all rows", found.refusal, found.rows
    for kind in _first(raw, "row_errors", "kinds"):
        what = f"{kind['code']}: {kind['message']}"
        yield _lines(kind["lines"], kind["count"]), what, kind["count"]
    for line in found.bad_lines[:_PROBLEMS_SHOWN]:
        yield f"line {line.line}", line.message, ""
    if found.num_bad_lines > _PROBLEMS_SHOWN:
        yield "…", "more bad lines", found.num_bad_lines - _PROBLEMS_SHOWN
    for row in _first(raw, "too_long", "rows"):
        yield f"line {row['line']}", f"{row['tokens']:,} tokens leave no room for an answer", ""
    if found.num_too_long > _PROBLEMS_SHOWN:
        yield "…", "more rows over the context", found.num_too_long - _PROBLEMS_SHOWN


def _repeats(found: JobValidation) -> Iterator[tuple[str, str, str]]:
    for row in _first(found.raw, "duplicates", "examples"):
        yield f"line {row['line']}", "the same request", f"line {row['same_as']}"
    for row in _first(found.raw, "duplicate_ids", "examples"):
        yield f"line {row['line']}", f"the id {row['id']}", f"line {row['same_as']}"


def _first(raw: Mapping[str, Any], name: str, items: str) -> Sequence[Any]:
    return (raw.get(name) or {}).get(items, ())[:_PROBLEMS_SHOWN]


def _lines(lines: Sequence[int], count: int) -> str:
    named = ", ".join(map(str, lines[:_LINES_NAMED]))
    more = ", …" if count > len(lines[:_LINES_NAMED]) else ""
    return f"line {named}" if count == 1 else f"lines {named}{more}"


def _too_long(rows: Mapping[str, Any]) -> str:
    window, cut = rows.get("context_window"), rows.get("cut_short")
    of = "" if window is None else f" (of {window:,} tokens)"
    short = f"; {counted(cut, 'answer')} may be cut short" if cut else ""
    return f"{rows.get('count', 0):,}{of}{short}"


def _repeated(rows: Mapping[str, Any], num_rows: int) -> str:
    count = rows.get("count", 0)
    about = "" if rows.get("exact", True) else "about "
    return f"{about}{count:,}" + (f" ({count / num_rows:.1%})" if count and num_rows else "")


def _input_tokens(found: JobValidation) -> str:
    tokens = found.raw.get("input_tokens")
    if tokens is None:
        return "unknown"
    longest = f"longest {tokens['longest']:,}"
    if tokens["exact"]:
        return f"{tokens['total']:,} ({longest})"
    counted_rows = f"{tokens['counted_rows']:,} of {found.rows:,} rows were counted"
    return f"about {tokens['total']:,} (estimated: {counted_rows}; {longest})"


def _output_tokens(found: JobValidation) -> str:
    most = "no bound" if found.output_at_most is None else f"at most {found.output_at_most:,}"
    return most if found.output_tokens is None else f"about {found.output_tokens:,}, {most}"


def _reuse(reuse: Mapping[str, Any], found: JobValidation) -> str:
    of = "" if not found.is_estimated else f" (of the first {reuse['rows']:,} rows)"
    return f"{reuse['share']:.1%} of the input tokens{of}"


def _time(seconds: tuple[float | None, float | None] | None) -> str:
    match seconds:
        case (float() | int() as p50, float() | int() as p90):
            return f"{short_time(p50)} to {short_time(p90)}"
        case (None, float() | int() as p90):
            return f"at most {short_time(p90)}"
    return "unknown: no worker has been busy yet, as far as is known here"
