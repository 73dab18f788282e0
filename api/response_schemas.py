"""What clients may send to POST /v1/responses. Knows no engine, and nothing of the answer."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..jobs.response_format import structured_outputs_of
from ..jobs.tool_use import ToolUse, tool_use_of
from .body_hints import OR_TEXT, within
from .errors import InvalidRequest, UnsupportedParameter
from .generation_schemas import Metadata, ShortText
from .message_schemas import not_too_long
from .response_input import InputItem, as_items, chat_messages, chat_tool_choice, chat_tools
from .schemas import MAX_MESSAGES
from .strict import Strict


class TextOptions(Strict):
    """The form of the answer's text."""

    format: dict[str, Any] | None = None
    """`text`, `json_object` or `json_schema`; a schema's `name` and `schema` stand beside `type`.
    """

    not_supported: ClassVar = {"verbosity": ("medium",)}

    def response_format(self) -> dict[str, Any] | None:
        """Return the form as chats say it, where a schema stands one level deeper."""
        if self.format is None or self.format.get("type") != "json_schema":
            return self.format
        schema = {name: value for name, value in self.format.items() if name != "type"}
        return {"type": "json_schema", "json_schema": schema}


class ResponseStreamOptions(Strict):
    """What a stream should carry beside the text."""

    include_obfuscation: bool | None = None  # pads frames against eavesdroppers; we send none
    """Accepted and ignored: it pads frames against eavesdroppers, and we send no padding."""


class ResponsesRequest(Strict):
    """The body of POST /v1/responses."""

    model: str
    """The model that is asked, as `/v1/models` names it."""
    input: Annotated[
        list[InputItem],
        BeforeValidator(as_items),
        Field(min_length=1, max_length=MAX_MESSAGES),
        OR_TEXT,
    ]
    """A text, or the conversation so far: messages, calls, and what came of the calls."""
    instructions: Annotated[str, AfterValidator(not_too_long)] | None = None
    """A system message that stands before the input."""
    max_output_tokens: Annotated[int | None, within(1)] = None
    """The most tokens of the answer; null is the rest of the context."""
    temperature: Annotated[float | None, within(0, 2)] = None
    """How freely tokens are drawn; 0 takes the likeliest, null means 1."""
    top_p: Annotated[float | None, within(above=0, high=1)] = None
    """Draw only from the likeliest tokens that together have this probability; null means 1, all of
    them.
    """
    text: TextOptions | None = None
    """The form of the answer's text; null for any."""
    tools: list[Any] | None = None
    """Functions that the model may call: `{"type": "function", "name", "description",
    "parameters"}`.
    """
    tool_choice: str | dict[str, Any] | None = None
    """`none`, `auto` or `required`, or the one function that must be called: `{"type": "function",
    "name"}`. Null means `auto`.
    """
    stream: bool | None = None
    """Whether the answer comes as server-sent events while it is made; not beside `background`."""
    stream_options: ResponseStreamOptions | None = None
    """What a stream carries beside the text."""
    background: bool | None = None
    """Whether to answer at once and work on, as a job that outlives the server; null means false.
    """
    store: bool | None = None
    """Whether it can be retrieved, for up to an hour, or in the background until it is deleted;
    null means true.
    """

    # Labels and hints: leaving them aside changes no answer.
    user: ShortText | None = None
    """A label of the client's, which the response repeats."""
    metadata: Metadata | None = None
    """Up to 16 labels of the client's, which the response repeats."""
    safety_identifier: ShortText | None = None
    """A label of the client's; accepted and ignored."""
    prompt_cache_key: ShortText | None = None
    """Accepted and ignored: what prompts share is found without it."""
    parallel_tool_calls: bool | None = None
    """Whether an answer that must call may call several times; null means true."""
    service_tier: Literal["auto", "default"] | None = None
    """Accepted and ignored: both are the same here."""

    # Said here so that the refusal tells what to do instead.
    previous_response_id: str | None = None
    """Refused unless null: no conversations are kept, so send the earlier messages in `input`."""

    not_supported: ClassVar = {
        "context_management": ([],),
        "conversation": (),
        "include": ([],),
        "max_tool_calls": (),
        "prompt": (),
        "reasoning": ({},),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    @model_validator(mode="after")
    def _check_together(self) -> "ResponsesRequest":
        if self.previous_response_id is not None:
            raise UnsupportedParameter(
                "previous_response_id is not supported: this server keeps no conversations; send "
                "the earlier messages and answers in `input`",
                param="previous_response_id",
            )
        if self.background and self.stream:
            message = "a response in the background is not streamed; retrieve it by its id"
            raise UnsupportedParameter(message, param="stream")
        if self.background and self.store is False:
            message = "background=true needs store=true, or nobody could retrieve the response"
            raise InvalidRequest(message, param="store")
        return self

    def messages(self) -> tuple[dict[str, Any], ...]:
        """Return the conversation as a chat template takes it."""
        said = chat_messages(self.input)
        if self.instructions is not None:
            said.insert(0, {"role": "system", "content": self.instructions})
        return tuple(said)

    def tool_use(self) -> ToolUse | None:
        """Return the tools that may be called, or must be; None without any.

        Raises:
            InvalidSampling: the tools, or the choice among them, cannot be used.
        """
        choice = chat_tool_choice(self.tool_choice)
        return tool_use_of(chat_tools(self.tools), choice, self.parallel_tool_calls)

    def chat_body(self) -> dict[str, Any]:
        """Return the same request as a row says it, which is a chat's body."""
        said = {
            "model": self.model,
            "messages": list(self.messages()),
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "response_format": self.text and self.text.response_format(),
            "tools": chat_tools(self.tools),
            "tool_choice": chat_tool_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
        }
        return {name: value for name, value in said.items() if value is not None}

    def sampling(self) -> dict[str, Any]:
        """Return what was said about sampling; without a limit the answer may fill the window."""
        values: dict[str, Any] = {"max_tokens": self.max_output_tokens}
        for name in ("temperature", "top_p"):
            if (value := getattr(self, name)) is not None:
                values[name] = value
        form = structured_outputs_of(self.text.response_format()) if self.text else None
        return values if form is None else {**values, "structured_outputs": form}
