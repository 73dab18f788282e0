"""Reads one object of a specification, and says in words what is wrong with its shape.

Whatever cannot be read is taken out, and the rest is read without it, so that one fault hides no
other. Knows no step and no rule.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import msgspec

from ..expressions.errors import nearest, shown
from .problems import Problems

NO_NAME = "must be a name: a letter, then letters, digits or _, up to 40 in all"
_NO_WORKFLOW_NAME = "must be a letter or digit, then letters, digits, _ . or -, up to 64 in all"
_MAX_PROBLEMS_EACH = 20  # of one object

_AT = re.compile(r" - at `(?:\$|key)(?P<path>[^`]*)`$")
_KEY = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>[^\]]*)\]")
_FIELD = re.compile(
    r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`", re.S
)
_GOT = re.compile(r", got .*$", re.S)
_TICKED = re.compile(r"`([^`]*)`")
_ELSEWHERE: Mapping[str, str] = {
    "max_error_rate": ": it stands at the top of the workflow, and holds for each of its steps"
}
_IN_WORDS: Mapping[str, str] = {
    "array": "a list",
    "object": "an object",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}

_Shape = TypeVar("_Shape", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Read(Generic[_Shape]):
    """An object as far as it could be read.

    Attributes:
        value: None where nothing could be made of it.
        lost: fields that were wrong or missing, in whose place there is a default or a stand-in.
    """

    value: _Shape | None
    lost: frozenset[str]


def read_shape(
    given: Mapping[str, Any],
    of: type[_Shape],
    where: str,
    problems: Problems,
    stand_ins: Mapping[str, Any],
) -> Read[_Shape]:
    """Read an object, telling everything that is wrong with its fields.

    `stand_ins` hold values of required fields, for those that are missing or of no use.
    """
    left, lost = dict(given), set[str]()
    for _ in range(_MAX_PROBLEMS_EACH):
        try:
            return Read(msgspec.convert(left, of), frozenset(lost))
        except msgspec.ValidationError as error:
            culprit = _told(str(error), given, left, of, where, problems)
        if culprit in left:
            del left[culprit]
        elif culprit in stand_ins:
            left[culprit] = stand_ins[culprit]
        else:
            break
        lost.add(culprit)
    return Read(None, frozenset(lost))


def _told(
    error: str,
    value: Mapping[str, Any],
    left: Mapping[str, Any],
    of: type,
    where: str,
    problems: Problems,
) -> str:
    """Tell of an error; return the field at fault: one that is there, or one that is missing."""
    at = _AT.search(error)
    message = error[: at.start()] if at else error
    keys = [
        match["key"] or f"[{match['index']}]" for match in _KEY.finditer(at["path"] if at else "")
    ]
    culprit = keys[0] if keys and keys[0] in left else ""
    field = _FIELD.match(message)
    if field is None:
        problems.add(_joined(where, *keys), _in_words(message, value, of, keys))
    elif field["what"] == "missing required":
        if keys or field["name"] not in value:  # else it has been told why that one is no use
            problems.add(_joined(where, *keys), f"{field['name']} is missing")
        return culprit or field["name"]
    else:
        hint = _ELSEWHERE.get(field["name"]) or nearest(field["name"], _fields_at(of, keys))
        problems.add(_joined(where, *keys, field["name"][:80]), f"there is no such field{hint}")
        return culprit or field["name"]
    return culprit


def _in_words(message: str, value: Mapping[str, Any], of: type, keys: list[str]) -> str:
    found = _value_at(value, keys)
    got = f", got {shown(found)}" if "[...]" not in keys else ""
    if "matching regex" in message:
        return (NO_NAME if keys != ["name"] else _NO_WORKFLOW_NAME) + got
    options = _options_at(of, keys)
    if options and message.startswith("Expected") and isinstance(found, Mapping):
        hint = ": `default: VALUE` stands beside it" if "default" in options else ""
        return f"must be one of {', '.join(options)}{got}{hint}"
    if message.startswith("Invalid enum value"):
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
    *outer, last = [key for key in keys if not key.startswith("[")] or [""]
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
