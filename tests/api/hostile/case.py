"""One odd or hostile request, and the answer it must get. Knows no server.

A case is a JSON object: `id`, `group`, `method`, `path`, `headers`, `body` (or `raw_body_b64`, or
`raw_gen` for bytes that are too many to write down), `expect_status`, and as far as they matter
`expect_error_type`, `expect_error_code`, `expect_param`, `max_s`. `"*"` is not looked at. Names in
double braces are filled in from the server under test.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\{\{([A-Z_]+)(?::(-?\d*):(-?\d*))?([+-]\d+)?\}\}")
_WHOLE_NUMBER = re.compile(r"\{\{int:([A-Z_]+)\}\}")


@dataclass(frozen=True)
class Request:
    """What goes over the wire."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes | None


class Case:
    """A case of the corpus, and what is filled into it."""

    def __init__(self, fields: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self._fields = fields
        self._values = values
        self.id: str = fields["id"]
        self.max_s: float = fields.get("max_s", 10.0)

    @property
    def is_raw(self) -> bool:
        """Whether its bytes go to the socket as they are, the request line among them."""
        return self._fields["flow"] == "socket"

    @property
    def statuses(self) -> list[int]:
        """Return the statuses that will do; 0 is a connection closed without an answer."""
        status = self._fields["expect_status"]
        return status if isinstance(status, list) else [status]

    def request(self) -> Request:
        """Return the request, with every large value made."""
        fields = deepcopy(dict(self._fields))
        for recipe in fields.pop("gen", []):
            _put(fields, recipe["into"].split("."), self._made(recipe, fields))
        headers: list[tuple[str, str]] = []
        for name, value in self._filled(fields["headers"]).items():
            headers += [(name, each) for each in (value if isinstance(value, list) else [value])]
        return Request(fields["method"], self._filled(fields["path"]), headers, self._body(fields))

    def raw_bytes(self) -> bytes:
        """Return what goes to the socket."""
        if "raw_gen" in self._fields:
            return self._joined(self._fields["raw_gen"])
        return self._filled(base64.b64decode(self._fields["raw_request_b64"]).decode()).encode()

    def complaint(self, status: int, body: bytes) -> str | None:
        """Say what is wrong with the answer; None if nothing is."""
        if status not in self.statuses:
            return f"status {status}, wanted {self.statuses}: {body[:300]!r}"
        if status < 400:
            return None
        error = json.loads(body)["error"]
        for name in ("type", "code", "param"):
            expected = self._fields.get(f"expect_{'error_' * (name != 'param')}{name}", "*")
            allowed = expected if isinstance(expected, list) else [expected]
            if "*" not in allowed and error[name] not in allowed:
                return f"{name} {error[name]!r}, wanted {expected!r}: {error['message']!r}"
        return None

    def _body(self, fields: Mapping[str, Any]) -> bytes | None:
        if "raw_gen" in fields:
            return self._joined(fields["raw_gen"])
        if "raw_body_b64" in fields:
            body = base64.b64decode(fields["raw_body_b64"])
            try:
                return self._filled(body.decode()).encode()
            except UnicodeDecodeError:
                return body
        if "body" in fields:
            return json.dumps(self._filled(fields["body"])).encode()
        return None

    def _made(self, recipe: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
        times = int(self._filled(recipe["times"])) if "times" in recipe else 0
        unit = recipe.get("unit")
        if isinstance(unit, str):
            before = recipe.get("prefix", "")
            if recipe["into"] == "path" or recipe["into"].startswith("headers."):
                before = before or _at(fields, recipe["into"].split("."))
            return before + unit * times
        if unit is not None:
            return [unit] * times
        units = [_numbered(recipe["unit_i"], number) for number in range(times)]
        if recipe["into"].endswith("logit_bias"):
            return dict(units)
        if "template" in recipe:
            template = deepcopy(recipe["template"])
            _put(template, recipe["list_at"].split("."), units)
            return template
        return units

    def _joined(self, parts: list[list[Any]]) -> bytes:
        pieces = [
            base64.b64decode(part[1]) * (1 if part[0] == "lit" else part[2]) for part in parts
        ]
        return self._filled(b"".join(pieces).decode("latin-1")).encode("latin-1")

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._filled(name): self._filled(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        if not isinstance(value, str) or "{{" not in value:
            return value
        if whole := _WHOLE_NUMBER.fullmatch(value):
            return int(self._values[whole[1]])
        return _NAME.sub(self._named, value)

    def _named(self, found: re.Match[str]) -> str:
        name, first, last, offset = found.groups()
        if name not in self._values:
            return found[0]
        value = self._values[name]
        if offset:
            return str(int(value) + int(offset))
        if first is not None or last is not None:
            return str(value)[int(first or 0) : int(last) if last else None]
        return str(value)


def read_cases(path: Path, values: Mapping[str, Any]) -> list[Case]:
    """Read the cases of a file, one a line."""
    return [Case(json.loads(line), values) for line in path.read_text().splitlines() if line]


def _numbered(unit: Any, number: int) -> Any:
    return json.loads(json.dumps(unit).replace("%d", str(number)))


def _at(fields: Any, path: Sequence[str]) -> Any:
    for name in path:
        fields = fields[int(name)] if isinstance(fields, list) else fields[name]
    return fields


def _put(fields: Any, path: Sequence[str], value: Any) -> None:
    parent = _at(fields, path[:-1])
    parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = value
