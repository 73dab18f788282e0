"""Reads a workflow from plain data, as JSON and YAML bring it. Knows no rule but its shape.

Everything is found out at once: what is wrong with one step keeps nobody from reading the next.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any, get_args

import msgspec

from ..expressions.errors import nearest, nearest_name, shown
from ..plain_data import reason_against
from ..spec import MAX_STEPS, Concat, Defaults, Expand, Input, Step, Workflow
from .draft import Draft, Remnant
from .problems import Problems
from .shape import NAME, NO_NAME, Read, read_shape

MAX_PARTS = 100_000
MAX_CHARS = 500_000
MAX_MISSPELT = 20  # parts whose names are looked at
_PARTS = frozenset({"inputs", "params", "defaults", "schemas", "steps", "output"})

_STEP_TYPES: Mapping[str, type[msgspec.Struct]] = {
    str(each.__struct_config__.tag): each for each in get_args(Step)
}
_ANY_STEP: tuple[Mapping[str, Any], ...] = ({"id": "a", "type": "concat"},)
ANY_NAME = "unnamed"  # nobody is told of it
_ANY_FIELD: Mapping[str, Any] = {  # of a step, or in it, whose own is missing: nobody is told
    "id": ANY_NAME,
    "where": "true",
    "key": "{{ row }}",
    "text": "",
    "size": 1,
    "role": "user",
    "content": "",
    "field": "row",
}
_ANY_SCHEMA: Mapping[str, Any] = {"type": "object"}


def read_workflow(document: Any) -> Workflow:
    """Make a workflow of plain data.

    Raises:
        InvalidWorkflow: it is none; all that is wrong with its shape is told.
    """
    problems = Problems()
    draft = read_draft(document, problems)
    problems.raise_any()
    return draft.workflow


def read_draft(document: Any, problems: Problems) -> Draft:
    """Read a workflow as far as it can be read, and tell what is wrong with its shape.

    Raises:
        InvalidWorkflow: so much is wrong that there is nothing to look at more closely.
    """
    if not isinstance(document, dict):
        problems.add("workflow", f"must be an object with name and steps, got {shown(document)}")
        problems.raise_any()
    document = _as_meant(document, problems)
    steps = document.get("steps")
    num_steps = len(steps) if isinstance(steps, list | tuple) else None
    reason = reason_against(document, max_parts=MAX_PARTS, max_chars=MAX_CHARS)
    if num_steps is None or not 1 <= num_steps <= MAX_STEPS:
        got = shown(steps) if num_steps is None else num_steps
        problems.add("steps", f"must be a list of 1 to {MAX_STEPS} steps, got {got}")
        if reason is None:
            _read_frame(document, problems)
        problems.raise_any()
    if reason is not None:
        problems.add("workflow", reason)
        problems.raise_any()
    read = [_read_step(index, step, problems) for index, step in enumerate(document["steps"])]
    workflow, lost = _read_frame(document, problems)
    workflow = msgspec.structs.replace(workflow, steps=tuple(step for step, _ in read))
    remnants = {index: each for index, (_, each) in enumerate(read) if each is not None}
    return Draft(workflow, remnants, lost)


def _as_meant(document: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """Take a part under a misspelt name for the one that is meant, if it holds anything."""
    known = [field.encode_name for field in msgspec.structs.fields(Workflow)]
    found = dict(document)
    for name in islice((name for name in document if name not in known), MAX_MISSPELT):
        meant = nearest_name(name, known)
        if meant in _PARTS and meant not in found and isinstance(document[name], dict | list):
            problems.add(name, f"there is no such field; did you mean {meant!r}?")
            found[meant] = found.pop(name)
    return found


def _read_frame(document: Mapping[str, Any], problems: Problems) -> tuple[Workflow, frozenset[str]]:
    """Read all but the steps; with the `defaults` that were lost.

    Raises:
        InvalidWorkflow: nobody can tell which inputs or params steps may rely on.
    """
    inputs = _read_inputs(document.get("inputs", {}), problems)
    given = {**document, "steps": _ANY_STEP, "inputs": {}, "defaults": {}}
    frame = read_shape(given, Workflow, "", problems, {"name": ANY_NAME})
    workflow = frame.value
    defaults, lost = _read_defaults(document.get("defaults", {}), problems)
    parts = {name: document.get(name, {}) for name in ("inputs", "params")}
    if workflow is None or not all(isinstance(part, dict) for part in parts.values()):
        problems.raise_any()
        raise AssertionError("what cannot be read has been told")
    for name in (workflow.name, *workflow.params, *workflow.schemas):
        if name.endswith("\n"):  # which `$` in a pattern lets pass
            problems.add("workflow", f"the name {name!r} ends in a line break")
    if "params" in frame.lost:  # some of them, or their names
        workflow = msgspec.structs.replace(workflow, params=parts["params"])
    if "schemas" in frame.lost and isinstance(named := document["schemas"], dict):
        schemas = {
            name: schema if isinstance(schema, dict) else dict(_ANY_SCHEMA)
            for name, schema in named.items()
        }
        workflow = msgspec.structs.replace(workflow, schemas=schemas)
    return msgspec.structs.replace(workflow, inputs=inputs, defaults=defaults), lost


def _read_defaults(defaults: Any, problems: Problems) -> tuple[Defaults, frozenset[str]]:
    if not isinstance(defaults, dict):
        problems.add("defaults", f"must be an object, got {shown(defaults)}")
        return Defaults(model=ANY_NAME), frozenset({"model", "on_error"})
    read = read_shape(defaults, Defaults, "defaults", problems, {})
    found = read.value or Defaults()
    if "model" in read.lost:
        found = msgspec.structs.replace(found, model=ANY_NAME)
    return found, read.lost


def _read_step(index: int, step: Any, problems: Problems) -> tuple[Step, Remnant | None]:
    """Read a step; with what is left of it, if it is not whole."""
    where = f"steps[{index}]"
    if not isinstance(step, dict):
        problems.add(where, f"must be an object with id and type, got {shown(step)}")
        return _of_no_type(where, {})
    has_name = isinstance(step.get("id"), str) and NAME.fullmatch(step["id"]) is not None
    if has_name:
        where = f"steps.{step['id']}"
    kind = step.get("type")
    of = _STEP_TYPES.get(kind) if isinstance(kind, str) else None
    doubted: frozenset[str] = frozenset()
    if of is None:
        known = ", ".join(_STEP_TYPES)
        hint = nearest(kind, _STEP_TYPES) if isinstance(kind, str) else ""
        problems.add(f"{where}.type", f"must be one of {known}, got {shown(kind)}{hint}")
        meant = _meant_type(step)
        if meant is None:
            return _of_no_type(where, step)
        of, step, doubted = _STEP_TYPES[meant], {**step, "type": meant}, frozenset({"type"})
    read: Read[Any] = read_shape(step, of, where, problems, _ANY_FIELD)
    if read.value is None:
        return _of_no_type(where, step)
    lost = read.lost | doubted
    if wrong := [name for name in _names_of(read.value) if not NAME.fullmatch(name)]:
        for name in wrong:  # which `$` in a pattern lets pass
            problems.add(where, f"the name {name!r} ends in a line break")
        lost |= {"id", "as", "cross"}
    found = read.value if has_name else msgspec.structs.replace(read.value, id=f"[{index}]")
    return found, Remnant(frozenset(step) - lost, lost) if lost else None


def _meant_type(step: Mapping[str, Any]) -> str | None:
    """Guess a type that is misspelt, where all else in the step is of a step of that type."""
    kind = step.get("type")
    meant = nearest_name(kind, _STEP_TYPES) if isinstance(kind, str) else None
    if meant is None:
        return None
    fields = msgspec.structs.fields(_STEP_TYPES[meant])
    known = {"type", *(field.encode_name for field in fields)}
    said = {name if name in known else nearest_name(name, known) for name in step}
    is_whole = all(field.encode_name in said for field in fields if field.required)
    return meant if is_whole and None not in said else None


def _of_no_type(where: str, step: Mapping[str, Any]) -> tuple[Step, Remnant]:
    """Return what stands for a step that does nobody knows what to the rows of others."""
    name, source = where.removeprefix("steps").removeprefix("."), step.get("from")
    sound, lost = {"from"}, {"type"}
    if isinstance(source, list) and len(source) > 1 and all(isinstance(s, str) for s in source):
        found: Step = Concat(id=name, from_=tuple(source))
    elif source is None or isinstance(source, str):
        found = Expand(id=name, from_=source)
    else:
        found, sound, lost = Expand(id=name), set(), {"type", "from"}
    return found, Remnant(frozenset(sound), frozenset(lost))


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
        where = f"inputs.{name}"
        if not NAME.fullmatch(name):
            problems.add(f"inputs.{name[:40]!r}", NO_NAME)
            continue
        read[name] = Input()
        if not isinstance(each, dict):
            problems.add(where, f"must be an object, got {shown(each)}")
        else:
            found = read_shape(each, Input, where, problems, {})
            if found.value is not None and "columns" not in found.lost:  # else they are any
                read[name] = found.value
    return read
