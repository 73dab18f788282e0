"""Times one request for generated text. Knows when its parts came, not what they say."""

import time

from starlette.types import Scope

from ..jobs.chat_usage import ChatUsage
from ..jobs.frames import Delta
from .meters import Meters
from .principal import principal_of
from .request_context import note_wait


class Stopwatch:
    """Runs from the arrival of a request to the end of its last answer.

    It tells the meters, and the book of what the tenant has used.
    """

    def __init__(self, meters: Meters, usage: ChatUsage, model: str, scope: Scope) -> None:
        self._meters = meters
        self._usage = usage
        self._model = model
        self._scope = scope
        self._started_s = time.perf_counter()
        self._heard_s: dict[int, float] = {}  # choice -> when its latest tokens came

    def waited(self, since_s: float) -> None:
        """Note that since then there was nothing to do but to wait for the engine."""
        note_wait(self._scope, time.perf_counter() - since_s)

    def saw(self, choice: int, delta: Delta) -> None:
        """Note a part of an answer."""
        now_s = time.perf_counter()
        if delta.token_ids:
            if not self._heard_s:
                self._meters.first_token(self._model, now_s - self._started_s)
            if choice in self._heard_s:
                self._meters.next_token(self._model, now_s - self._heard_s[choice])
            self._heard_s[choice] = now_s
        if delta.finish_reason is not None and delta.error is None:
            self._meters.answer_ended(self._model, delta.finish_reason)

    def stop(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> None:
        """Note that the request has ended, one way or another, and what it cost."""
        self._meters.request_ended(self._model, time.perf_counter() - self._started_s)
        self._meters.count_tokens(self._model, prompt_tokens, completion_tokens, cached_tokens)
        tenant = principal_of(self._scope).tenant
        self._usage.count(tenant, self._model, prompt_tokens, completion_tokens, cached_tokens)
