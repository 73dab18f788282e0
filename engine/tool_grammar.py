"""Writes the grammar of an answer that must call tools, in the way its model writes calls.

Knows llguidance's Lark dialect, and refuses to know who asks for a call.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .closed_schema import closed_schema
from .structured_outputs import check_schemas
from .tool_calls import CLOSE, OPEN, ToolFormat

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
# How Python's json writes, and so how the models were taught; endless blanks are not allowed.
_LAYOUT = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


def tool_call_grammar(
    form: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    parallel: bool = True,
    answer_schema: Mapping[str, Any] | None = None,
) -> str:
    """Write the grammar (llguidance's Lark) of answers that call some of `tools`, OpenAI's objects.

    Without `parallel` there is one call. With `answer_schema` the model may answer instead of
    calling, with a document of that schema.

    Raises:
        InvalidSampling: the schemas of the tools are too long, or are none.
    """
    parameters = [tool["function"].get("parameters") or _NOTHING for tool in tools]
    check_schemas("tools", *parameters)
    lead, key, end, between = {
        ToolFormat.HERMES: (f"{OPEN}\n", "arguments", f"\n{CLOSE}", "\n"),
        ToolFormat.LLAMA: ("", "parameters", "", "; "),
    }[form]
    calls = f"call ({_literal(between)} call)*" if parallel else "call"
    lines = [f"start: {calls}" if answer_schema is None else f"start: {calls} | answer"]
    lines.append("call: " + " | ".join(f"call_{index}" for index in range(len(tools))))
    for index, tool in enumerate(tools):
        head = f'{lead}{{"name": {json.dumps(tool["function"]["name"])}, "{key}": '
        lines.append(f"call_{index}: {_literal(head)} arguments_{index} {_literal('}' + end)}")
        # Arguments are an object, whether or not their schema says so.
        lines.append(f"arguments_{index}: {_embedded({'type': 'object', **parameters[index]})}")
    if answer_schema is not None:
        lines.append(f"answer: {_embedded(answer_schema)}")
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    return json.dumps(text)


def _embedded(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**closed_schema(schema), "x-guidance": _LAYOUT})
