"""The lines of a batch, as OpenAI writes them, checked before anything runs. Knows no job.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}

All bad lines are told, each with its number, up to MAX_ERRORS of them. What is wrong inside a body
is its row's error, later; what is checked here is what would make an answer impossible to give or
to tell from others. A line that passes is one that a job takes: the same reader reads it here.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, BinaryIO

import msgspec

from .input_row import MAX_LINE_BYTES
from .json_lines import read_json_line
from .model import RejectedLine
from .strict_json import NotJson, parse_json

MAX_ERRORS = 1_000
MAX_ID_CHARS = 512
MAX_ROWS = 1_000_000


class BatchError(msgspec.Struct, frozen=True):
    """Why a batch cannot run; `line` counts from 1, None for the file as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(slots=True)
class CheckedLines:
    """What the lines of a file ask for: rows by model, or what is wrong with them."""

    rows_of: Counter[str] = field(default_factory=Counter)
    errors: list[BatchError] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self.rows_of.total()


def check_lines(
    file: BinaryIO,
    endpoint: str,
    models: Collection[str],
    keep: Callable[[str, bytes], object] = lambda model, line: None,
    *,
    max_rows: int = MAX_ROWS,
) -> CheckedLines:
    """Read a whole file, a line at a time, and look for what is wrong with it.

    `keep` is given each line that is right, as its job is to read it, and its model.
    """
    checked = CheckedLines()
    seen: set[bytes] = set()
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            message = f"This line is longer than {MAX_LINE_BYTES} bytes."
            checked.errors.append(BatchError("invalid_json_line", message, number))
            break  # where the next one begins is anybody's guess
        if not line.strip():
            continue
        found = _check_line(line, number, endpoint, models, seen)
        if isinstance(found, BatchError):
            checked.errors.append(found)
        else:
            model = found["body"]["model"]
            checked.rows_of[model] += 1
            keep(model, msgspec.json.encode({name: found[name] for name in _KEPT}) + b"\n")
        if len(checked.errors) >= MAX_ERRORS:
            break
        if checked.num_rows > max_rows:
            message = f"The file has more than {max_rows} requests."
            checked.errors.append(BatchError("too_many_tasks", message))
            break
    if not checked.errors and not checked.num_rows:
        checked.errors.append(BatchError("empty_file", "The file holds no requests."))
    return checked


def _check_line(
    line: bytes,
    number: int,
    endpoint: str,
    models: Collection[str],
    seen: set[bytes],
) -> dict[str, Any] | BatchError:
    try:
        request = parse_json(line)
    except NotJson as error:
        reason = f"This line is not parseable as valid JSON: {error}."[:300]
        return BatchError("invalid_json_line", reason, number)
    read = read_json_line(number, line.strip())
    if isinstance(read, RejectedLine):
        return BatchError("invalid_json_line", f"This line {read.message}.", number)
    if not isinstance(request, dict):
        return BatchError("invalid_json_line", "This line is not a JSON object.", number)
    found = _fault(request, endpoint, models)
    if found is not None:
        return BatchError(*found[:2], number, found[2])
    custom_id = request["custom_id"]
    digest = blake2b(custom_id.encode(), digest_size=12).digest()
    if digest in seen:
        message = (
            f"The custom_id {custom_id[:80]!r} for this request is a duplicate of another "
            "request. The custom_id parameter must be unique for each request in a batch."
        )
        return BatchError("duplicate_custom_id", message, number, "custom_id")
    seen.add(digest)
    return request


def _fault(
    request: dict[str, Any], endpoint: str, models: Collection[str]
) -> tuple[str, str, str] | None:
    """Return code, message and parameter of the first fault of a request; None without one."""
    for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if name not in request:
            return "missing_required_parameter", f"Missing required parameter: '{name}'.", name
        if not isinstance(request[name], kind):
            return "invalid_type", f"{name} must be {_KINDS[kind]}.", name
    if not 1 <= len(request["custom_id"]) <= MAX_ID_CHARS:
        return "invalid_value", f"custom_id must have 1 to {MAX_ID_CHARS} characters.", "custom_id"
    if request["method"] != "POST":
        message = f"The method must be POST, not {request['method'][:20]!r}."
        return "invalid_method", message, "method"
    if request["url"] != endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        return "invalid_url", message, "url"
    body = request["body"]
    if body.get("stream"):
        message = "Streaming is not supported in the Batch API."
        return "streaming_unsupported", message, "body.stream"
    model = body.get("model")
    if not isinstance(model, str) or not model:
        return "missing_required_parameter", "Model parameter is required.", "body.model"
    if model not in models:
        return "model_not_found", f"The model {model[:80]!r} is not served here.", "body.model"
    return None


_KEPT = ("custom_id", "url", "body")  # whatever else a line says is nobody's
_KINDS: dict[type, str] = {str: "a string", dict: "an object"}
