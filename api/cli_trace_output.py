"""How the history of rows looks on a terminal: what was asked, answered, made. Knows no server."""

from collections.abc import Mapping, Sequence
from typing import Any

from .cli_output import Printer, cell
from .cli_value_text import value_text

_SHORT = 500  # characters of a prompt or an answer


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
        printer.facts([*_end_facts(trace), *_trace_facts(trace)])


def _end_facts(trace: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Tell how a step ended for a row, and why it failed."""
    meta = trace.get("meta")
    noted = meta if isinstance(meta, Mapping) else {}
    error = trace.get("error")
    status = noted.get("status") or ("failed" if error else None)
    facts: list[tuple[str, Any]] = [("status", status)] if status else []
    if error:
        facts.append(("error", cell(f"{error['code']}: {error['message']}", _SHORT)))
    elif code := noted.get("error_code"):
        facts.append(("error", code))
    return facts


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
        facts.append(("value", cell(value_text(trace["value"]), _SHORT)))
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
