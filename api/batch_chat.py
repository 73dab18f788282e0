"""A batcher as OpenAI's client looks: `batch.chat.completions.create(...)`.

Code that is written for that client becomes bulk where its client is replaced by a batcher. Knows
the package `openai` only when its types are asked for.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .batch_options import Question
from .openai_client import import_openai
from .records import ChatAnswer

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion


class BatchChat:
    """Ask, and wait for the answer; `completions` asks as OpenAI's client does."""

    def __init__(self, ask: Callable[..., ChatAnswer]) -> None:
        self._ask = ask
        self.completions = BatchCompletions(ask)

    def __call__(self, question: Question, **sampling: Any) -> ChatAnswer:
        """Ask, and wait for the answer. See `Batcher.submit` for many at once."""
        return self._ask(question, **sampling)


class BatchCompletions:
    """OpenAI's `chat.completions`, as far as a bulk job can do it."""

    def __init__(self, ask: Callable[..., ChatAnswer]) -> None:
        self._ask = ask

    def create(
        self, *, messages: Sequence[Mapping[str, Any]], model: str | None = None, **body: Any
    ) -> "ChatCompletion":
        """Ask, and wait for the answer, which is OpenAI's own type.

        Raises:
            MissingPackage: `openai` is not installed.
            RowFailed: this request got no answer.
        """
        openai = import_openai("chat.completions.create")
        return _completion(openai, self._ask(messages, model=model, **body))


class AsyncBatchChat:
    """Ask, and wait for the answer; `completions` asks as OpenAI's client does."""

    def __init__(self, ask: Callable[..., Awaitable[ChatAnswer]]) -> None:
        self._ask = ask
        self.completions = AsyncBatchCompletions(ask)

    async def __call__(self, question: Question, **sampling: Any) -> ChatAnswer:
        """Ask, and wait for the answer; many coroutines at once become one bulk job."""
        return await self._ask(question, **sampling)


class AsyncBatchCompletions:
    """OpenAI's `chat.completions`, as far as a bulk job can do it."""

    def __init__(self, ask: Callable[..., Awaitable[ChatAnswer]]) -> None:
        self._ask = ask

    async def create(
        self, *, messages: Sequence[Mapping[str, Any]], model: str | None = None, **body: Any
    ) -> "ChatCompletion":
        """Ask, and wait for the answer, which is OpenAI's own type.

        Raises:
            MissingPackage: `openai` is not installed.
            RowFailed: this request got no answer.
        """
        openai = import_openai("chat.completions.create")
        return _completion(openai, await self._ask(messages, model=model, **body))


def _completion(openai: Any, answer: ChatAnswer) -> "ChatCompletion":
    return openai.types.chat.ChatCompletion.model_validate(answer.raw)
