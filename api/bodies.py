"""Reads a request's JSON body, strictly and with a limit. Knows no field of any schema.

Refused with a clear 400: no JSON, NaN and Infinity, the same key twice, text that is not UTF-8,
half a surrogate pair, an integer that 64 bits do not hold. Numbers stay numbers: "3" is no integer
here, and neither is true.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from ..jobs.strict_json import NotJson, parse_json
from .errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, shown

MAX_JSON_BYTES = 4 << 20
MAX_CHANGE_BYTES = 64 << 10  # of what changes a thing, or has it run again
MAX_REASON_CHARS = 120
MAX_PROMPT_BYTES = 16 << 20  # read so far that a prompt which is too long can be told so
_PARSED_AT_ONCE_BYTES = 256 << 10
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # what a message to a worker has room for
_LONG_NUMBER = re.compile(rb"\d{19}")

Schema = TypeVar("Schema", bound=BaseModel)

# Pydantic's words for where it looked; of two kinds of items in one list, the tags.
_NOT_NAMES = frozenset(
    {"query", "path", "header", "[key]"}
    | {"[message]", "[function_call]", "[function_call_output]"}
)
_SUBJECT = re.compile(r"^(Value error, |\w+ (?=should ))")  # "String should ..."; we name the field
_CODE_OF = {  # pydantic's names for what is wrong -> OpenAI's
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "too_short": "empty_array",
    "too_long": "array_above_max_length",
    "string_too_long": "string_above_max_length",
    "string_too_short": "empty_string",
}


async def read_json(request: Request, schema: type[Schema], max_bytes: int) -> Schema:
    """Read the body and check it against `schema`.

    Raises:
        InvalidRequest: not JSON, or not what the schema wants.
        BodyTooLarge: more than `max_bytes`.
        UnsupportedMediaType: the body is declared as something else, or compressed.
    """
    _check_media_type(request)
    return await _parse(await read_bytes(request, max_bytes), schema)


async def read_optional_json(request: Request, schema: type[Schema], max_bytes: int) -> Schema:
    """Read a body that may be left out, as `read_json` does; none is `schema` without a field.

    Only reading tells whether there is one: what comes in chunks declares no length.
    """
    body = await read_bytes(request, max_bytes)
    if not body:
        return schema()
    _check_media_type(request)
    return await _parse(body, schema)


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read the body, and no further than `max_bytes`."""
    declared = request.headers.get("content-length", "")
    too_large = BodyTooLarge(f"the body may hold at most {max_bytes} bytes on this route")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large
    except ClientDisconnect as error:
        raise InvalidRequest("the connection closed before the body had ended") from error
    return bytes(body)


async def _parse(body: bytes, schema: type[Schema]) -> Schema:
    if len(body) > _PARSED_AT_ONCE_BYTES:  # in a thread, or all answers would halt meanwhile
        return await anyio.to_thread.run_sync(parse, body, schema)
    return parse(body, schema)


def parse(body: bytes, schema: type[Schema]) -> Schema:
    """Turn bytes of JSON into an instance of `schema`, or raise InvalidRequest."""
    if not body.strip():
        raise InvalidRequest("the body is empty; send a JSON object", code="invalid_json")
    try:
        value = parse_json(body)
    except NotJson as error:
        reason = str(error) if len(str(error)) < MAX_REASON_CHARS else shown(str(error))
        raise InvalidRequest(f"the body is not valid JSON: {reason}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body must be a JSON object, got {shown(value)}")
    if _LONG_NUMBER.search(body):
        _check_integers(value)
    try:
        return schema.model_validate(value, strict=True)
    except ValidationError as error:
        raise refusal_of_fields(error.errors(include_url=False)) from None


def json_body(schema: type[BaseModel], *, is_required: bool = True) -> dict[str, Any]:
    """Describe for OpenAPI the body that a route reads with `read_json`."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": is_required, "content": content}}


def _check_media_type(request: Request) -> None:
    # One that is missing is no guess at JSON: a web page can leave it out without asking first.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        got = shown(media_type) if media_type else "none"
        raise UnsupportedMediaType(f"send `content-type: application/json`, got {got}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read here; send plain JSON")


def _check_integers(body: dict[str, Any]) -> None:
    """Refuse an integer beyond 64 bits, however deep it stands."""
    for name, value in body.items():
        waiting = [value]
        while waiting:
            match waiting.pop():
                case dict() as members:
                    waiting += members.values()
                case list() as items:
                    waiting += items
                case int() as number if not _MIN_INTEGER <= number <= _MAX_INTEGER:
                    message = f"an integer may have at most 64 bits, got {shown(number)}"
                    raise InvalidRequest(f"{name}: {message}", param=name)


def refusal_of_fields(errors: Sequence[Any]) -> InvalidRequest:
    """Tell the first of pydantic's complaints; the value is quoted only when it is short."""
    first = errors[0]
    param = ".".join(str(part) for part in first["loc"] if part not in _NOT_NAMES)
    kind = first["type"]
    code = _CODE_OF.get(kind, "invalid_type" if "type" in kind else "invalid_value")
    if kind == "extra_forbidden":
        return InvalidRequest(f"unknown parameter: {param}", param=param, code=code)
    if kind == "missing":
        return InvalidRequest(f"{param} is required", param=param, code=code)
    reason = _SUBJECT.sub("", first["msg"])
    message = f"{param} {reason}, got {shown(first['input'])}" if param else reason
    return InvalidRequest(message, param=param or None, code=code)
