"""Reads a workflow from plain data, as JSON and YAML bring it. Knows no rule but its shape.

Everything is found out at once: what is wrong with one step keeps nobody from reading the next.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec

from ..expressions.errors import nearest, shown
from ..plain_data import reason_against
from ..spec import MAX_STEPS, Expand, Input, Step, Workflow
from .problems import Problems

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
    reason = reason_against(document, max_parts=MAX_PARTS, max_chars=MAX_CHARS)
    if reason is not None:
        problems.add("workflow", reason)
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
        if read is not None and _has_names(read, where, problems):
            yield read


def _has_names(step: Step, where: str, problems: Problems) -> bool:
    """Refuse a name that ends in a line break, which `$` in a pattern lets pass."""
    wrong = [name for name in _names_of(step) if not _NAME.fullmatch(name)]
    for name in wrong:
        problems.add(where, f"the name {name!r} ends in a line break")
    return not wrong


def _names_of(step: Step) -> tuple[str, ...]:
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
