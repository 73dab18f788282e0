"""What a request says about tools, and what follows for its sampling and for reading its answer.

Knows OpenAI's `tools` and `tool_choice`. How a model writes its calls is the engine's business.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal

from ..engine.outputs import RequestError
from ..engine.sampling_params import InvalidSampling, SamplingParams, StructuredOutputs
from ..engine.tool_calls import (
    Parsed,
    ToolCall,
    ToolCallParser,
    ToolFormat,
    detect_tool_format,
    parse_tool_calls,
)
from ..engine.tool_grammar import tool_call_grammar

__all__ = [
    "TOOL_CALLS",
    "InvalidSampling",
    "Parsed",
    "ToolCall",
    "ToolCallParser",
    "ToolFormat",
    "ToolUse",
    "call_ids",
    "detect_tool_format",
    "parse_tool_calls",
    "tool_use_of",
]

MAX_TOOLS = 128
TOOL_CALLS = "tool_calls"  # why an answer ended that called tools
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Tools that may be called, or must be.

    Attributes:
        tools: OpenAI's objects, as the chat template takes them.
        choice: "auto" leaves it to the model; with "required" the answer is nothing but calls.
        only: the one function that must be called, if one is named.
        is_parallel: whether an answer that must call may call several times.
    """

    tools: tuple[dict[str, Any], ...]
    choice: Literal["auto", "required"] = "auto"
    only: str | None = None
    is_parallel: bool = True

    def format_in(self, form: ToolFormat | None) -> ToolFormat:
        """Return how the answer will write its calls; `form` is how the model does of itself."""
        return form or ToolFormat.HERMES

    def sampling_params(
        self, params: SamplingParams, form: ToolFormat | None
    ) -> SamplingParams | RequestError:
        """Bind the output to calls where it must call; `form` is how the model writes them.

        Raises:
            InvalidSampling: the schemas of the tools are too long for that.
        """
        schema = _answer_schema(params.structured_outputs)
        if self.choice == "auto":
            if form is None:
                return _error(
                    "tools",
                    "the model's chat template shows no way of calling tools that is known here; "
                    'name one with the setting tool_format, or say tool_choice "required"',
                )
            if params.structured_outputs is None:
                return params
            if schema is None:
                return _error("structured_outputs", "beside tools there can be JSON only")
            grammar = tool_call_grammar(
                form, self.tools, parallel=self.is_parallel, answer_schema=schema
            )
        else:
            tools = [tool for tool in self.tools if self.only in (None, tool["function"]["name"])]
            is_parallel = self.is_parallel and self.only is None
            grammar = tool_call_grammar(self.format_in(form), tools, parallel=is_parallel)
        return replace(params, structured_outputs=StructuredOutputs(grammar=grammar))


def tool_use_of(tools: Any, tool_choice: Any = None, parallel: Any = None) -> ToolUse | None:
    """Read OpenAI's three parameters; None where no tool is to be called, nor shown.

    Raises:
        InvalidSampling: one of them is not what it must be; `param` names it.
    """
    if parallel is not None and not isinstance(parallel, bool):
        raise InvalidSampling("parallel_tool_calls", f"must be true or false, got {parallel!r}")
    if tools is not None and not isinstance(tools, list | tuple):
        raise InvalidSampling("tools", "must be a list of tools")
    if not tools:
        if tool_choice not in (None, "none", "auto"):
            raise InvalidSampling("tool_choice", "needs tools to choose from")
        return None
    if len(tools) > MAX_TOOLS:
        raise InvalidSampling("tools", f"takes at most {MAX_TOOLS} tools, got {len(tools)}")
    checked = tuple(_checked(index, tool) for index, tool in enumerate(tools))
    names = [tool["function"]["name"] for tool in checked]
    for name in names:
        if names.count(name) > 1:
            raise InvalidSampling("tools", f"must have a name each, got {name!r} twice")
    is_parallel = parallel is not False
    match tool_choice:
        case "none":
            return None
        case None | "auto":
            return ToolUse(checked, is_parallel=is_parallel)
        case "required":
            return ToolUse(checked, "required", is_parallel=is_parallel)
        case {"type": "function", "function": {"name": str() as name}}:
            if name not in names:
                raise InvalidSampling("tool_choice", f"names {name!r}, which is not among tools")
            return ToolUse(checked, "required", name, is_parallel)
        case _:
            raise InvalidSampling(
                "tool_choice",
                'must be "none", "auto", "required" or {"type": "function", "function": {"name": '
                f"…}}}}, got {str(tool_choice)[:60]!r}",
            )


def call_ids(*, of: str) -> Callable[[], str]:
    """Make the ids of one answer's calls: `of` names it, and gets the same ones if run again."""
    number = 0

    def next_id() -> str:
        nonlocal number
        number += 1
        digest = blake2b(f"{of}/{number}".encode(), digest_size=12)
        return f"call_{digest.hexdigest()}"

    return next_id


def _checked(index: int, tool: Any) -> dict[str, Any]:
    where = f"tools.{index}"
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function" or set(tool) != {"type", "function"}:
        raise InvalidSampling(where, 'must be {"type": "function", "function": {…}}')
    function = tool["function"]
    if not isinstance(function, dict):
        raise InvalidSampling(f"{where}.function", "must be an object")
    for name in function:
        if name not in _FUNCTION_FIELDS:
            raise InvalidSampling(f"{where}.function", f"has no field {str(name)[:40]!r}")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSampling(
            f"{where}.function.name",
            f"must be 1 to 64 letters, digits, '_', '-' or '.', got {str(name)[:80]!r}",
        )
    if not isinstance(function.get("description", ""), str | None):
        raise InvalidSampling(f"{where}.function.description", "must be a string")
    parameters = function.get("parameters")
    if not isinstance(parameters, dict | None):
        raise InvalidSampling(f"{where}.function.parameters", "must be a JSON Schema, an object")
    if (kind := (parameters or {}).get("type", "object")) != "object":
        raise InvalidSampling(
            f"{where}.function.parameters.type", f'must be "object", got {str(kind)[:40]!r}'
        )
    if not isinstance(function.get("strict"), bool | None):
        raise InvalidSampling(f"{where}.function.strict", "must be true or false")
    return tool


def _answer_schema(form: StructuredOutputs | None) -> dict[str, Any] | None:
    """Return the schema of an answer that calls nothing, where it must be JSON."""
    if form is None:
        return None
    if form.json_object:
        return {"type": "object"}
    if form.json is None:
        return None
    return json.loads(form.json) if isinstance(form.json, str) else form.json


def _error(param: str, message: str) -> RequestError:
    return RequestError("invalid_request", f"{param}: {message}", param=param, stage="validate")
