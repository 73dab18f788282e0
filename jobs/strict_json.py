"""JSON without anything that two readers might understand in two ways. Knows no schema."""

import json
import re
from typing import Any, NoReturn

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class NotJson(ValueError):
    """Some bytes are not JSON, or not strictly; the message says why."""


def parse_json(data: bytes) -> Any:
    """Return what `data` says in JSON.

    Raises:
        NotJson: it says nothing, NaN, the same key twice, half a character, or is no UTF-8.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
        if _SURROGATE_ESCAPE.search(data):  # a pair makes a character, half a pair makes none
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} does not belong to UTF-8") from None
    except UnicodeEncodeError:
        raise NotJson("a string holds half a surrogate pair") from None
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
