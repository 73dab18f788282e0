"""What clients may send to be generated: OpenAI's two requests. Knows no engine, no queue."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from ..jobs.tool_use import ToolUse, tool_use_of
from .body_hints import PROMPTS
from .errors import InvalidRequest
from .generation_schemas import GenerationRequest
from .message_schemas import ChatMessage
from .prompt_schemas import Prompt, as_prompts

MAX_PROMPTS = 128
MAX_MESSAGES = 4096


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    """The conversation so far, the oldest message first."""
    max_completion_tokens: int | None = None
    """OpenAI's newer word for `max_tokens`; where both are given they must be the same."""
    logprobs: bool | None = None
    """Whether the answer's tokens come with their log probabilities; null means false."""
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    """How many of the likeliest tokens are told at each place; it needs `logprobs`."""
    tools: list[Any] | None = None
    """Up to 128 functions that the model may call: `{"type": "function", "function": {"name",
    "description", "parameters"}}`.
    """
    tool_choice: str | dict[str, Any] | None = None
    """`none`, `auto` or `required`, or the one function that must be called: `{"type": "function",
    "function": {"name"}}`. Null means `auto`.
    """
    parallel_tool_calls: bool | None = None
    """Whether an answer that must call may call several times; null means true."""
    # vLLM's: switches of the model's own template, such as {"enable_thinking": false}.
    chat_template_kwargs: dict[str, Any] | None = None
    """Switches of the model's chat template, such as `{"enable_thinking": false}`; known from vLLM.
    """

    not_supported: ClassVar = {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "modalities": (["text"],),
        "prediction": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    def tool_use(self) -> ToolUse | None:
        """Return what was said about tools.

        Raises:
            InvalidSampling: something about it is wrong.
        """
        return tool_use_of(self.tools, self.tool_choice, self.parallel_tool_calls)

    def sampling(self) -> dict[str, Any]:
        """Return what was said about sampling; without a limit the answer may fill the window."""
        values = {"max_tokens": None, **super().sampling()}
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise InvalidRequest(
                    "max_tokens and max_completion_tokens differ; send only one of them",
                    param="max_tokens",
                )
            values["max_tokens"] = self.max_completion_tokens
            self._check_samples(self.max_completion_tokens)
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs=true", param="top_logprobs")
        if self.logprobs:
            values["logprobs"] = self.top_logprobs or 0
        return values


def _as_prompts(value: Any) -> list[Prompt]:
    return as_prompts(value, MAX_PROMPTS)


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    prompt: Annotated[Any, BeforeValidator(_as_prompts), PROMPTS]
    """A text, a list of token ids, or up to 128 of either."""
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None
    """How many of the likeliest tokens are told at each place; null tells no log probabilities."""
    echo: bool | None = None
    """Whether the answer begins with the prompt; null means false."""

    not_supported: ClassVar = {
        "best_of": (1,),
        "parallel_tool_calls": (True, False),
        "suffix": ("",),
    }

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, each as text or as token ids."""
        return self.prompt

    def sampling(self) -> dict[str, Any]:
        """Return what was said about sampling; here `logprobs` is a number already."""
        values = super().sampling()
        if self.logprobs is None:
            return values
        values["logprobs"] = self.logprobs
        if self.echo:
            if (self.n or 1) > 1:
                raise InvalidRequest("echo with logprobs takes n=1", param="n")
            values["prompt_logprobs"] = self.logprobs
        return values
