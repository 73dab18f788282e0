"""Reads one object of a specification, and says in words what is wrong with its shape.

Whatever cannot be read is taken out, and the rest is read without it, so that one fault hides no
other. Knows no step and no rule.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args, get_origin

import msgspec

from ..expressions.errors import nearest, nearest_name, shown
from .problems import Problems

NO_NAME = "must be a name: a letter, then letters, digits or _, up to 40 in all"
_NO_WORKFLOW_NAME = "must be a letter or digit, then letters, digits, _ . or -, up to 64 in all"
_MAX_PROBLEMS_EACH = 20  # of one object
_ANY_ENTRY = "[...]"  # of an object with names of its author's

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

_AT = re.compile(r" - at (?P<is_name>`key` in )?`(?:\$|key)(?P<path>[^`]*)`$")
_KEY = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>[^\]]*)\]")
_FIELD = re.compile(
    r"Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`", re.S
)
_GOT = re.compile(r", got .*$", re.S)
_TICKED = re.compile(r"`([^`]*)`")
_ELSEWHERE: Mapping[str, str] = {
    "max_error_rate": ": it stands at the top of the workflow, and holds for each of its steps"
}
_OTHER_NAMES: Mapping[str, str] = {  # that JSON Schema, Python or SQL have for kinds of columns
    **dict.fromkeys(("integer", "int", "int32", "bigint"), "int64"),
    **dict.fromkeys(("number", "float", "double", "float32"), "float64"),
    **dict.fromkeys(("str", "text", "varchar"), "string"),
    "boolean": "bool",
    **dict.fromkeys(("object", "array", "list", "dict"), "json"),
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
_Place: TypeAlias = tuple[str, ...]  # within an object: fields, and items such as `[2]`


@dataclass(frozen=True, slots=True)
class Read(Generic[_Shape]):
    """An object as far as it could be read.

    Attributes:
        value: None where nothing could be made of it.
        lost: fields that were wrong, misspelt or missing, in whose place there is a default or a
            stand-in.
    """

    value: _Shape | None
    lost: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Fault:
    """What keeps an object from being read.

    Attributes:
        place: what is wrong, or is missing.
        message: how.
        is_missing: whether it is not there.
        meant: the field that is meant, if it looks like another.
    """

    place: _Place
    message: str
    is_missing: bool = False
    meant: str | None = None


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
    left: Any = given
    lost, meant = set[str](), set[_Place]()
    for _ in range(_MAX_PROBLEMS_EACH):
        try:
            return Read(msgspec.convert(left, of), frozenset(lost))
        except msgspec.ValidationError as error:
            fault = _fault_in(str(error), given, left, of)
        place = fault.place
        if not fault.is_missing:
            problems.add(_joined(where, *place), fault.message)
        elif place not in meant and not _is_at(given, place):  # else it has been told why
            problems.add(_joined(where, *place[:-1]), fault.message)
        if fault.meant is not None:
            meant.add((*place[:-1], fault.meant))
            lost |= {fault.meant} if len(place) == 1 else set()
        mended = _mended(left, place, stand_ins)
        left = mended if mended is not None else _mended(left, place[:1], stand_ins)
        if left is None:
            break
        lost.add(place[0])
    return Read(None, frozenset(lost))


def _fault_in(error: str, given: Mapping[str, Any], left: Mapping[str, Any], of: type) -> _Fault:
    """Find out what an error is about; `left` is what has been read, of what was `given`."""
    at = _AT.search(error)
    message = error[: at.start()] if at else error
    keys = tuple(
        match["key"] or f"[{match['index']}]" for match in _KEY.finditer(at["path"] if at else "")
    )
    if at and at["is_name"]:
        wrong = next((name for name in _value_at(left, keys) if not NAME.fullmatch(name)), "")
        return _Fault((*keys, wrong), NO_NAME)
    field = _FIELD.match(message)
    if field is None:
        place = _with_entry(keys, left, of)
        return _Fault(place, _in_words(message, given, of, keys, place))
    name = field["name"]
    if field["what"] == "missing required":
        return _Fault((*keys, name), f"{name} is missing", is_missing=True)
    known = _fields_at(of, keys)
    hint = _ELSEWHERE.get(name) or nearest(name, known)
    meant = nearest_name(name, known)
    return _Fault((*keys, name), f"there is no such field{hint}", meant=meant)


def _mended(value: Any, place: _Place, stand_ins: Mapping[str, Any]) -> Any:
    """Copy an object without what stands at a place, or with a stand-in if that is what it lacks.

    None where neither can be done.
    """
    match place, value:
        case (key,), Mapping() if key in value:
            return {name: each for name, each in value.items() if name != key}
        case (key,), Mapping() if key in stand_ins:
            return {**value, key: stand_ins[key]}
        case (key, *inner), Mapping() if inner and key in value:
            part = _mended(value[key], tuple(inner), stand_ins)
            return None if part is None else {**value, key: part}
        case (key, *inner), list() if inner and (index := _index_in(key)) is not None:
            part = _mended(value[index], tuple(inner), stand_ins)
            return None if part is None else [*value[:index], part, *value[index + 1 :]]
    return None


def _with_entry(keys: _Place, left: Mapping[str, Any], of: type) -> _Place:
    """Name the entry of an object that is at fault, where an error says that one of them is."""
    *outer, last = keys or ("",)
    annotation = _annotation_at(of, tuple(outer))
    for name, value in _value_at(left, tuple(outer)).items() if last == _ANY_ENTRY else ():
        try:
            msgspec.convert({name: value}, annotation)
        except msgspec.ValidationError:
            return (*outer, name)
    return keys


def _in_words(message: str, given: Mapping[str, Any], of: type, keys: _Place, place: _Place) -> str:
    found = _value_at(given, place)
    got = f", got {shown(found)}" if _ANY_ENTRY not in place else ""
    if "matching regex" in message:
        return (NO_NAME if keys != ("name",) else _NO_WORKFLOW_NAME) + got
    options = _options_at(of, keys)
    if options and message.startswith("Expected") and isinstance(found, Mapping):
        hint = ": `default: VALUE` stands beside it" if "default" in options else ""
        return f"must be one of {', '.join(options)}{got}{hint}"
    if message.startswith("Invalid enum value"):
        hint = _meant_by(found, options) if isinstance(found, str) else ""
        return f"must be one of {', '.join(options)}{got}{hint}"
    words = _GOT.sub("", message).replace("Expected", "must be")
    return _TICKED.sub(_ticked_in_words, words) + got


def _meant_by(name: str, options: tuple[str, ...]) -> str:
    other = _OTHER_NAMES.get(name.lower())
    return f"; did you mean {other!r}?" if other in options else nearest(name, options)


def _ticked_in_words(ticked: re.Match[str]) -> str:
    return " or ".join(_IN_WORDS.get(word, word) for word in ticked[1].split(" | "))


def _joined(where: str, *keys: str) -> str:
    place = where
    for key in keys:
        place += key if key.startswith("[") else f".{key[:80]}"
    return place.removeprefix(".") or "workflow"


def _value_at(value: Any, keys: _Place) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and (index := _index_in(key)) is not None:
            value = value[index]
    return value


def _is_at(value: Any, place: _Place) -> bool:
    """Tell whether there is a field at a place."""
    holder = _value_at(value, place[:-1])
    return isinstance(holder, Mapping) and place[-1] in holder


def _index_in(key: str) -> int | None:
    """Read a key such as `[2]`; None of one that is a name, or `[...]`."""
    digits = key.strip("[]")
    return int(digits) if digits.isdigit() and key.startswith("[") else None


def _fields_at(of: type, keys: _Place) -> tuple[str, ...]:
    """Name the fields of what stands at a place: of the object itself, or of one within it."""
    return tuple(field.encode_name for field in msgspec.structs.fields(_struct_at(of, keys)))


def _options_at(of: type, keys: _Place) -> tuple[str, ...]:
    """Name what a field may be."""
    return tuple(_literals_in(_annotation_at(of, keys)))


def _annotation_at(of: type, keys: _Place) -> Any:
    """Return the type of a field, or of that whose item stands there."""
    *outer, last = [key for key in keys if not key.startswith("[")] or [""]
    fields = msgspec.structs.fields(_struct_at(of, tuple(outer)))
    return next((field.type for field in fields if field.encode_name == last), None)


def _struct_at(of: type, keys: _Place) -> type:
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
