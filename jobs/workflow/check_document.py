"""Reads a workflow from plain data, as JSON and YAML bring it. Knows no rule but its shape.

Everything is found out at once: what is wrong with one step keeps nobody from reading the next.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec

from .check_problems import Problems
from .expression_errors import nearest, shown
from .spec import MAX_STEPS, Expand, Input, Step, Workflow

MAX_DEPTH = 64
MAX_PARTS = 100_000
MAX_CHARS = 500_000
_MAX_PROBLEMS_EACH = 20  # of one step
_NO_NAME = "must be a name: a letter, then letters, digits or _, up to 40 in all"
_NO_WORKFLOW_NAME = "must be a letter or digit, then letters, digits, _ . or -, up to 64 in all"

_STEP_TYPES: Mapping[str, type[msgspec.Struct]] = {
    str(each.__struct_config__.tag): each for each in get_args(Step)
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_AT = re.compile(r" - at `(?:\$|key)(?P<path>[^`]*)`$")
_KEY = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>[^\]]*)\]")
_FIELD = re.compile(
    r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`", re.S
)
_GOT = re.compile(r", got .*$", re.S)
_TICKED = re.compile(r"`([^`]*)`")
_IN_WORDS: Mapping[str, str] = {
    "array": "a list",
    "object": "an object",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
_ANY_STEP: tuple[Mapping[str, Any], ...] = ({"id": "a", "type": "concat"},)


def read_workflow(document: Any) -> Workflow:
    """Make a workflow of plain data.

    Raises:
        InvalidWorkflow: it is none; all that is wrong with its shape is told.
    """
    problems = Problems()
    if not isinstance(document, dict):
        problems.add("workflow", f"must be an object with name and steps, got {shown(document)}")
        problems.raise_any()
    steps = document.get("steps")
    num_steps = len(steps) if isinstance(steps, list | tuple) else None
    if num_steps is None or not 1 <= num_steps <= MAX_STEPS:
        got = shown(steps) if num_steps is None else num_steps
        problems.add("steps", f"must be a list of 1 to {MAX_STEPS} steps, got {got}")
        problems.raise_any()
    _check_size(document, problems)
    problems.raise_any()
    read_steps = tuple(_read_steps(document["steps"], problems))
    inputs = _read_inputs(document.get("inputs", {}), problems)
    frame = _converted({**document, "steps": _ANY_STEP, "inputs": {}}, Workflow, "", problems)
    problems.raise_any()
    workflow = msgspec.structs.replace(frame, steps=read_steps, inputs=inputs)
    for name in (workflow.name, *workflow.params, *workflow.schemas):
        if name.endswith("\n"):  # which `$` in a pattern lets pass
            problems.add("workflow", f"the name {name!r} ends in a line break")
    problems.raise_any()
    return workflow


def _check_size(document: Any, problems: Problems) -> None:
    """Refuse what is too large, too deep, or no plain data, without going down by recursion.

    A list that stands in several places counts in each: that is how often it would be read.
    """
    num_parts = num_chars = 0
    todo: list[tuple[Any, int]] = [(document, 1)]
    while todo:
        value, depth = todo.pop()
        num_parts += 1
        match value:
            case str():
                num_chars += len(value)
                if num_chars <= MAX_CHARS and not _is_text(value):
                    problems.add("workflow", f"{shown(value)} holds what is no character")
            case bool() | None:
                pass
            case int() if value.bit_length() > 63:
                problems.add("workflow", f"a number has {value.bit_length()} bits, more than 63")
            case int():
                pass
            case float() if not math.isfinite(value):
                problems.add("workflow", f"{value} is not a finite number")
            case float():
                pass
            case dict() | list() | tuple():
                if depth > MAX_DEPTH:
                    problems.add("workflow", f"it is nested more than {MAX_DEPTH} deep")
                    return
                inner = value.values() if isinstance(value, dict) else value
                num_parts += len(value)
                if isinstance(value, dict):
                    if not all(isinstance(name, str) for name in value):
                        name = next(name for name in value if not isinstance(name, str))
                        problems.add("workflow", f"a key must be a text, got {shown(name)}")
                        return
                    num_chars += sum(map(len, value))
                if num_parts <= MAX_PARTS:
                    todo.extend((each, depth + 1) for each in inner)
            case _:
                kind = type(value).__name__
                problems.add("workflow", f"{shown(value)} is no plain data, but a {kind}")
        if num_parts > MAX_PARTS or num_chars > MAX_CHARS:
            problems.add(
                "workflow",
                f"it is larger than {MAX_PARTS} values or {MAX_CHARS} characters; "
                "data belongs into an input",
            )
            return


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _read_steps(steps: Sequence[Any], problems: Problems) -> Iterator[Step]:
    for index, step in enumerate(steps):
        where = f"steps[{index}]"
        if not isinstance(step, dict):
            problems.add(where, f"must be an object with id and type, got {shown(step)}")
            continue
        if isinstance(step.get("id"), str) and _NAME.fullmatch(step["id"]):
            where = f"steps.{step['id']}"
        kind = step.get("type")
        of = _STEP_TYPES.get(kind) if isinstance(kind, str) else None
        if of is None:
            known = ", ".join(_STEP_TYPES)
            hint = nearest(kind, _STEP_TYPES) if isinstance(kind, str) else ""
            problems.add(f"{where}.type", f"must be one of {known}, got {shown(kind)}{hint}")
            continue
        read = _converted(step, of, where, problems)
        if read is not None:
            yield from (each for each in (read,) if _has_names(each, where, problems))


def _has_names(step: Step, where: str, problems: Problems) -> bool:
    """Refuse a name that ends in a line break, which `$` in a pattern lets pass."""
    wrong = [name for name in names_of(step) if not _NAME.fullmatch(name)]
    for name in wrong:
        problems.add(where, f"the name {name!r} ends in a line break")
    return not wrong


def names_of(step: Step) -> tuple[str, ...]:
    """Return the names that a step gives."""
    cross = step.cross if isinstance(step, Expand) else None
    return (step.id, step.column, *(cross or ()))


def _read_inputs(inputs: Any, problems: Problems) -> dict[str, Input]:
    if not isinstance(inputs, dict):
        problems.add("inputs", f"must be an object of datasets by name, got {shown(inputs)}")
        return {}
    read: dict[str, Input] = {}
    for name, each in inputs.items():
        if not _NAME.fullmatch(name):
            problems.add(f"inputs.{name[:40]!r}", _NO_NAME)
        elif not isinstance(each, dict):
            problems.add(f"inputs.{name}", f"must be an object, got {shown(each)}")
        else:
            read[name] = _converted(each, Input, f"inputs.{name}", problems)
    return read


def _converted(value: dict[str, Any], of: type, where: str, problems: Problems) -> Any:
    """Read an object, telling everything that is wrong with its fields; None where it cannot be."""
    left = dict(value)
    for _ in range(_MAX_PROBLEMS_EACH):
        try:
            return msgspec.convert(left, of)
        except msgspec.ValidationError as error:
            culprit = _told(str(error), value, left, of, where, problems)
            if culprit is None:
                return None
            del left[culprit]
    return None


def _told(
    error: str,
    value: dict[str, Any],
    left: dict[str, Any],
    of: type,
    where: str,
    problems: Problems,
) -> str | None:
    """Tell of an error; return the field without which there may be others to be found."""
    at = _AT.search(error)
    message = error[: at.start()] if at else error
    keys = [
        match["key"] or f"[{match['index']}]" for match in _KEY.finditer(at["path"] if at else "")
    ]
    culprit = keys[0] if keys and keys[0] in left else None
    field = _FIELD.match(message)
    if field is None:
        problems.add(_joined(where, *keys), _in_words(message, value, of, keys))
    elif field["what"] == "missing required":
        if keys or field["name"] not in value:  # else it has been told why that one is no use
            problems.add(_joined(where, *keys), f"{field['name']} is missing")
    else:
        hint = nearest(field["name"], _fields_at(of, keys))
        problems.add(_joined(where, *keys, field["name"][:80]), f"there is no such field{hint}")
        return culprit or field["name"]
    return culprit


def _in_words(message: str, value: dict[str, Any], of: type, keys: list[str]) -> str:
    found = _value_at(value, keys)
    got = f", got {shown(found)}" if "[...]" not in keys else ""
    if "matching regex" in message:
        return (_NO_NAME if keys != ["name"] else _NO_WORKFLOW_NAME) + got
    if message.startswith("Invalid enum value"):
        options = _options_at(of, keys)
        hint = nearest(found, options) if isinstance(found, str) else ""
        return f"must be one of {', '.join(options)}{got}{hint}"
    words = _GOT.sub("", message).replace("Expected", "must be")
    return _TICKED.sub(_ticked_in_words, words) + got


def _ticked_in_words(ticked: re.Match[str]) -> str:
    return " or ".join(_IN_WORDS.get(word, word) for word in ticked[1].split(" | "))


def _joined(where: str, *keys: str) -> str:
    place = where
    for key in keys:
        place += key if key.startswith("[") else f".{key}"
    return place.removeprefix(".") or "workflow"


def _value_at(value: Any, keys: list[str]) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.strip("[]").isdigit():
            value = value[int(key.strip("[]"))]
    return value


def _fields_at(of: type, keys: list[str]) -> tuple[str, ...]:
    """Name the fields of what stands at a place: of the object itself, or of one within it."""
    return tuple(field.encode_name for field in msgspec.structs.fields(_struct_at(of, keys)))


def _options_at(of: type, keys: list[str]) -> tuple[str, ...]:
    """Name what a field may be."""
    *outer, last = [key for key in keys if not key.startswith("[")]
    fields = msgspec.structs.fields(_struct_at(of, outer))
    annotation = next((field.type for field in fields if field.encode_name == last), None)
    return tuple(_literals_in(annotation))


def _struct_at(of: type, keys: list[str]) -> type:
    for key in keys:
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(of)}
        of = next(_structs_in(fields.get(key)), of)
    return of


def _structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for each in get_args(annotation):
        yield from _structs_in(each)


def _literals_in(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for each in get_args(annotation):
            yield from _literals_in(each)
