"""What a dry run has found, in words: facts, what is wrong and where, what to note. Draws nothing.

Knows the object that the server tells, in which parts may be null.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .wording import counted, short_time

PROBLEM_COLUMNS = ("where", "what", "how many")
REPEAT_COLUMNS = ("where", "what", "as in")
_PROBLEMS_SHOWN = 10  # of each kind
_LINES_NAMED = 5


def validation_facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is known of the rows, by name."""
    rows = found.get("rows") or 0
    tokens, reuse = found.get("input_tokens"), found.get("prefix_reuse")
    num_repeated_ids = _count(found, "duplicate_ids")
    yield "model", found.get("model") or ""
    yield "rows", f"{rows:,}" + ("" if found.get("complete") else " so far")
    yield "bad lines", f"{_count(found, 'bad_lines'):,}"
    yield "rows in error", f"{_count(found, 'row_errors'):,}"
    if tokens is not None:
        yield "over the context", _too_long(found.get("too_long") or {})
    yield "duplicates", _repeated(found.get("duplicates") or {}, rows)
    if num_repeated_ids:
        yield "duplicate ids", f"{num_repeated_ids:,}"
    yield "input tokens", "unknown" if tokens is None else _input_tokens(tokens, rows)
    yield "output tokens", _output_tokens(found.get("output_tokens") or {})
    if reuse is not None:
        is_exact = tokens is None or tokens.get("exact", True)
        of = "" if is_exact else f" (of the first {reuse['rows']:,} rows)"
        yield "prefix reuse", f"{reuse['share']:.1%} of the input tokens{of}"
    yield "time", _time(found.get("seconds") or {})


def validation_problems(found: Mapping[str, Any]) -> Iterator[tuple[str, str, int | str]]:
    """Yield what keeps rows, or all of them, from being answered; see `PROBLEM_COLUMNS`."""
    refusal = found.get("refusal")
    if refusal is not None:
        yield "all rows", refusal["message"], found.get("rows") or 0
    for kind in _first(found, "row_errors", "kinds"):
        what = f"{kind['code']}: {kind['message']}"
        yield _lines(kind["lines"], kind["count"]), what, kind["count"]
    for line in _first(found, "bad_lines", "errors"):
        yield f"line {line['line']}", line["message"], ""
    if (num_more := _count(found, "bad_lines") - _PROBLEMS_SHOWN) > 0:
        yield "…", "more bad lines", num_more
    for row in _first(found, "too_long", "rows"):
        yield f"line {row['line']}", f"{row['tokens']:,} tokens leave no room for an answer", ""
    if (num_more := _count(found, "too_long") - _PROBLEMS_SHOWN) > 0:
        yield "…", "more rows over the context", num_more


def validation_repeats(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield rows that say what earlier ones say; see `REPEAT_COLUMNS`."""
    for row in _first(found, "duplicates", "examples"):
        yield f"line {row['line']}", "the same request", f"line {row['same_as']}"
    for row in _first(found, "duplicate_ids", "examples"):
        yield f"line {row['line']}", f"the id {row['id']}", f"line {row['same_as']}"


def validation_doubts(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is allowed and hardly meant, and what could not be looked at."""
    for text in found.get("warnings") or ():
        yield f"warning: {text}"
    for text in found.get("unchecked") or ():
        yield f"not checked: {text}"
    if found.get("stopped") is not None:
        yield f"not all was read: {found['stopped']}"


def validation_grounds(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the estimates rest on."""
    for text in found.get("rests_on") or ():
        yield f"rests on {text}" if text[:1].isdigit() else text


def validation_text(found: Mapping[str, Any]) -> str:
    """Write all of it as plain text: a fact, a problem or a note on a line."""
    problems = [
        (
            where,
            f"{what} ({counted(count, 'row')})" if isinstance(count, int) and count > 1 else what,
        )
        for where, what, count in validation_problems(found)
    ]
    repeats = [(where, f"{what} as {line}") for where, what, line in validation_repeats(found)]
    parts = [_aligned(validation_facts(found)), _aligned(problems), _aligned(repeats)]
    notes = [*validation_doubts(found), *validation_grounds(found)]
    return "\n\n".join(filter(None, [*parts, "\n".join(notes)]))


def _aligned(pairs: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    lines = [(name, " ".join(value.split())) for name, value in pairs]
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _count(found: Mapping[str, Any], name: str) -> int:
    return (found.get(name) or {}).get("count") or 0


def _first(found: Mapping[str, Any], name: str, items: str) -> Sequence[Any]:
    return ((found.get(name) or {}).get(items) or ())[:_PROBLEMS_SHOWN]


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


def _input_tokens(tokens: Mapping[str, Any], num_rows: int) -> str:
    longest = f"longest {tokens['longest']:,}"
    if tokens["exact"]:
        return f"{tokens['total']:,} ({longest})"
    counted_rows = f"{tokens['counted_rows']:,} of {num_rows:,} rows were counted"
    return f"about {tokens['total']:,} (estimated: {counted_rows}; {longest})"


def _output_tokens(tokens: Mapping[str, Any]) -> str:
    most, expected = tokens.get("at_most"), tokens.get("expected")
    bound = "no bound" if most is None else f"at most {most:,}"
    return bound if expected is None else f"about {expected:,}, {bound}"


def _time(seconds: Mapping[str, Any]) -> str:
    match seconds.get("p50"), seconds.get("p90"):
        case (float() | int() as p50, float() | int() as p90):
            return f"{short_time(p50)} to {short_time(p90)}"
        case (None, float() | int() as p90):
            return f"at most {short_time(p90)}"
    return "unknown: nothing was measured yet, as far as is known here"
