"""Jobs, runs, dry runs and clients as small pieces of HTML, for notebooks.

Knows records and what they say; asks no server. Everything said by anybody is escaped. Nothing is
loaded from anywhere, no script runs, and no colour is set on text, so that a card reads well on a
light page as on a dark one.
"""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from ..jobs.model import JobState
from .eta import Eta
from .records import JobRecord
from .validation_facts import validation_doubts, validation_facts, validation_problems
from .wording import counted, error_words, eta_words, short_number, short_rate, short_time
from .workflow_records import RunRecord, StepRecord

_GREEN, _RED, _BLUE, _AMBER, _GREY = "#2f9e5b", "#d9483b", "#3b82d9", "#d99a2b", "#8a8a8a"
_DOTS = {
    JobState.COMPLETED: _GREEN,
    JobState.COMPLETED_WITH_ERRORS: _AMBER,
    JobState.PAUSED: _AMBER,
    JobState.FAILED: _RED,
    JobState.EXPIRED: _RED,
    JobState.CANCELLED: _GREY,
}
_STEP_DOTS = {"completed": _GREEN, "running": _BLUE, "failed": _RED}
_FAINT = "rgba(128,128,128,.35)"
_CARD = (
    "display:inline-block;min-width:22em;max-width:44em;padding:.7em 1em;color:inherit;"
    f"border:1px solid {_FAINT};border-radius:.6em;font:13px/1.5 system-ui,sans-serif;"
    "text-align:left;overflow-wrap:anywhere"
)
_TABLE = "border-collapse:collapse;color:inherit;font-size:1em;line-height:inherit"
_CELL = "padding:0 1.2em 0 0;text-align:left;vertical-align:top;border:0;background:none"
_NUMBER = "padding:0 0 0 1.2em;text-align:right;white-space:nowrap;border:0;background:none"


def job_card(record: JobRecord, eta: Eta | None = None) -> str:
    """Write a job's card: where it stands, how far it is, and what went wrong."""
    counts = record.counts
    num_done = counts.succeeded + counts.failed
    return _card(
        _head(record.name or record.id, record.status, record.id if record.name else ""),
        _bar(counts.succeeded, counts.failed, counts.total),
        _facts(
            [
                ("rows", f"{num_done:,} of {counts.total:,}"),
                ("failed", f"{counts.failed:,}" if counts.failed else ""),
                ("unparsed", f"{counts.unparsed:,}" if counts.unparsed else ""),
                ("rejected", counted(counts.rejected, "line") if counts.rejected else ""),
                ("errors", error_words(record.errors_by_code)),
                ("rate", _rate(record)),
                ("time left", _time_left(record, eta)),
                ("took" if record.status.is_final else "running for", _took(record)),
                ("tokens", _tokens(record)),
                ("model", record.model),
                ("why", record.error or record.status_reason or ""),
                ("rows are in", record.output_path or "" if record.status.is_final else ""),
            ]
        ),
    )


def run_card(record: RunRecord) -> str:
    """Write a run's card, with a line for each step."""
    return _card(
        _head(record.name or record.workflow or record.id, record.status, record.id),
        _steps(record.steps),
        _facts(
            [
                ("rows", f"{record.input_rows:,} in, {record.output_rows:,} out"),
                ("rejected", counted(record.rejected, "line") if record.rejected else ""),
                ("took" if record.status.is_final else "running for", _took(record)),
                ("tokens", _tokens(record)),
                ("why", record.error or record.status_reason or ""),
                ("rows are in", record.output_path or "" if record.status.is_final else ""),
            ]
        ),
    )


def validation_card(found: Mapping[str, Any]) -> str:
    """Write a dry run's card: what the rows would come to, and what is wrong with them."""
    is_ok = bool(found.get("ok"))
    problems = ((where, what) for where, what, _ in validation_problems(found))
    return _card(
        _titled("dry run", _GREEN if is_ok else _AMBER, "ok" if is_ok else "see below", ""),
        _facts(validation_facts(found)),
        _facts(problems),
        _facts(("", doubt) for doubt in validation_doubts(found)),
    )


def client_card(kind: str, url: str, *, has_key: bool) -> str:
    """Write a client's card: whom it talks to; a key is not shown."""
    return _card(
        f"<b>{escape(kind)}</b>",
        _facts([("server", url), ("key", "given" if has_key else "none")]),
    )


def _card(*parts: str) -> str:
    return f'<div class="penstock-card" style="{_CARD}">{"".join(filter(None, parts))}</div>'


def _head(title: str, status: JobState, below: str) -> str:
    return _titled(title, _DOTS.get(status, _BLUE), str(status).replace("_", " "), below)


def _titled(title: str, colour: str, state: str, below: str) -> str:
    small = f'<div style="opacity:.7;font-size:.9em">{escape(below)}</div>' if below else ""
    return f"<div><b>{escape(title)}</b> &nbsp;{_dot(colour)} {escape(state)}</div>{small}"


def _dot(colour: str) -> str:
    return (
        '<span style="display:inline-block;width:.65em;height:.65em;border-radius:50%;'
        f'background:{colour}"></span>'
    )


def _bar(num_good: int, num_bad: int, total: int) -> str:
    """Draw how much is done, and how much of it failed."""
    if not total:
        return ""
    parts = "".join(
        f'<div style="width:{100 * number / total:.2f}%;background:{colour}"></div>'
        for number, colour in ((num_good, _GREEN), (num_bad, _RED))
    )
    return (
        f'<div style="display:flex;height:.5em;margin:.5em 0;border-radius:.25em;overflow:hidden;'
        f'background:{_FAINT}">{parts}</div>'
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    """Write names and values, as far as there are values."""
    rows = "".join(
        f'<tr style="background:none"><td style="{_CELL};opacity:.7;white-space:nowrap">'
        f'{escape(name)}</td><td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in facts
        if value
    )
    return f'<table style="{_TABLE};margin:.3em 0 0">{rows}</table>'


def _steps(steps: Iterable[StepRecord]) -> str:
    names = ("", "in", "out", "dropped", "failed", "tokens", "shards")
    head = "".join(
        f'<th style="{_NUMBER};opacity:.7;font-weight:normal">{name}</th>' for name in names
    )
    rows = "".join(_step(step) for step in steps)
    return (
        f'<table style="{_TABLE};margin:.4em 0">'
        f'<tr style="background:none">{head}</tr>{rows}</table>'
    )


def _step(step: StepRecord) -> str:
    dot = _dot(_STEP_DOTS.get(step.state, _GREY))
    name = f'<td style="{_CELL}">{dot} {escape(step.id)}</td>'
    numbers = "".join(f'<td style="{_NUMBER}">{escape(text)}</td>' for text in _numbers(step))
    errors = ""
    if step.errors_by_code:
        said = escape(error_words(step.errors_by_code))
        errors = (
            f'<tr style="background:none"><td colspan="7" style="{_CELL};opacity:.7;'
            f'padding-left:1.2em">{said}</td></tr>'
        )
    return f'<tr style="background:none">{name}{numbers}</tr>{errors}'


def _numbers(step: StepRecord) -> Iterator[str]:
    for number in (step.rows_in, step.rows_out, step.dropped, step.failed):
        yield f"{number:,}" if number else ""
    tokens = step.usage.completion_tokens
    yield short_number(tokens) if tokens else ""
    yield f"{step.shards_done}/{'?' if step.num_shards is None else step.num_shards}"


def _rate(record: JobRecord) -> str:
    rates = []
    if record.rows_per_s:
        rates.append(f"{short_rate(record.rows_per_s)} rows/s")
    if record.tokens_per_s:
        rates.append(f"{short_number(record.tokens_per_s)} tok/s")
    return " · ".join(rates)


def _time_left(record: JobRecord, eta: Eta | None) -> str:
    if record.eta_s is None or record.status.is_final:
        return ""
    return eta_words(eta or Eta(record.eta_s))


def _took(record: JobRecord | RunRecord) -> str:
    return "" if record.duration_s is None else short_time(record.duration_s)


def _tokens(record: JobRecord | RunRecord) -> str:
    usage = record.usage
    if not usage.prompt_tokens and not usage.completion_tokens:
        return ""
    read, written = short_number(usage.prompt_tokens), short_number(usage.completion_tokens)
    return f"{read} read, {written} written"
