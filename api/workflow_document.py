"""Plain data out of what a program holds: the only values that a specification is made of."""

import math
from collections.abc import Mapping
from typing import Any

from .client_errors import InvalidInput

_MAX_DEPTH = 64


def plain(value: Any, where: str, _depth: int = 0) -> Any:
    """Copy a value as JSON would: mappings, lists, texts, finite numbers, booleans and None.

    A pydantic model stands for its JSON Schema, a tuple for a list.

    Raises:
        InvalidInput: there is something else in it, or it is nested too deeply.
    """
    if _depth > _MAX_DEPTH:
        raise InvalidInput(f"{where} is nested more than {_MAX_DEPTH} levels deep")
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise InvalidInput(f"{where}: a key must be a text, got {key!r}")
            return {key: plain(item, f"{where}, {key}", _depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, where, _depth + 1) for item in value]
        case type() if hasattr(value, "model_json_schema"):
            return plain(
                value.model_json_schema(),  # pyright: ignore[reportAttributeAccessIssue]  # asked above
                where,
                _depth + 1,
            )
    raise InvalidInput(f"{where} must be plain data, got {value!r:.80} ({type(value).__name__})")


def plain_mapping(document: Any, where: str) -> dict[str, Any]:
    """Copy a specification, whatever it says.

    Raises:
        InvalidInput: it is no mapping, or there is something else in it than plain data.
    """
    if not isinstance(document, Mapping):
        kind = type(document).__name__
        raise InvalidInput(f"{where} must be a mapping with name and steps, got {kind}")
    return plain(document, where)


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not said."""
    return {name: value for name, value in options.items() if value is not None}
