"""What a conversation in /v1/responses consists of: messages, calls, and what came of the calls.

Knows OpenAI's items, and how chats say the same.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag

from .errors import UnsupportedParameter
from .generation_schemas import ShortText
from .message_schemas import Role, join_text_parts, not_too_long
from .strict import Strict

Status = Literal["in_progress", "completed", "incomplete"]


def _as_text(content: Any) -> Any:
    """Join the text parts of an item; an answer of ours, sent back as it came, has them too."""
    return join_text_parts(content, ("input_text", "output_text"), "input")


Text = Annotated[str, BeforeValidator(_as_text), AfterValidator(not_too_long)]


class InputMessage(Strict):
    """One message of the input, or one of an earlier answer's output."""

    role: Role
    """Who says it; `developer` is another word for `system`."""
    content: Text
    """A text, or a list of parts of type `input_text` or `output_text`."""
    type: Literal["message"] = "message"
    """May be left out."""
    id: ShortText | None = None
    """As an earlier answer told it; accepted and ignored."""
    status: Status | None = None
    """As an earlier answer told it; accepted and ignored."""

    not_supported: ClassVar = {"phase": ()}


class FunctionCall(Strict):
    """A call that the model made in an earlier turn; the arguments are JSON text."""

    type: Literal["function_call"]
    """There are no others."""
    call_id: ShortText
    """By which the result names the call."""
    name: str
    """The function's name."""
    arguments: Annotated[str, AfterValidator(not_too_long)]
    """The arguments, as JSON text."""
    id: ShortText | None = None
    """As an earlier answer told it; accepted and ignored."""
    status: Status | None = None
    """As an earlier answer told it; accepted and ignored."""


class FunctionCallOutput(Strict):
    """What came of a call."""

    type: Literal["function_call_output"]
    """There are no others."""
    call_id: ShortText
    """Which call it answers."""
    output: Text
    """What came of it: a text, or a list of parts of type `input_text` or `output_text`."""
    id: ShortText | None = None
    """As an earlier answer told it; accepted and ignored."""
    status: Status | None = None
    """As an earlier answer told it; accepted and ignored."""


def _kind(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return f"[{kind or 'message'}]"


InputItem = Annotated[
    Annotated[InputMessage, Tag("[message]")]
    | Annotated[FunctionCall, Tag("[function_call]")]
    | Annotated[FunctionCallOutput, Tag("[function_call_output]")],
    Discriminator(_kind),
]
_KINDS = ("message", "function_call", "function_call_output")


def as_items(value: Any) -> Any:
    """Bring a lone text into the form of items, and name what else we have not.

    Raises:
        UnsupportedParameter: an item is of a kind that means nothing here.
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    for item in value if isinstance(value, list) else ():
        kind = item.get("type", "message") if isinstance(item, dict) else "message"
        if kind not in _KINDS:
            raise UnsupportedParameter(
                f"input may hold messages, function calls and their outputs; items of type "
                f"{repr(kind)[:40]} are not supported",
                param="input",
            )
    return value


def chat_messages(items: list[InputItem]) -> list[dict[str, Any]]:
    """Return the conversation as chats have it: calls belong to the message before them."""
    messages: list[dict[str, Any]] = []
    for item in items:
        match item:
            case InputMessage():
                messages.append({"role": item.role, "content": item.content})
            case FunctionCallOutput():
                said = {"tool_call_id": item.call_id, "content": item.output}
                messages.append({"role": "tool", **said})
            case FunctionCall():
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                messages[-1].setdefault("tool_calls", []).append(call)
    return messages


def chat_tools(tools: list[Any] | None) -> list[Any] | None:
    """Return tools as chats have them, with the function one level deeper.

    Raises:
        UnsupportedParameter: a tool is no function of the client's.
    """
    if tools is None:
        return None
    deeper: list[Any] = []
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise UnsupportedParameter(
                f"tools may be functions only; tools of type {repr(kind)[:40]} are not supported",
                param="tools",
            )
        function = {name: value for name, value in tool.items() if name != "type"}
        deeper.append({"type": "function", "function": function})
    return deeper


def chat_tool_choice(choice: Any) -> Any:
    """Return the choice among them as chats have it; what it is not is told later."""
    match choice:
        case {"type": "function", "name": str() as name}:
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice
