"""An engine that writes made-up text on time: for tests of the queue and for its benchmarks.

It is chosen by a model name such as `fake:step_ms=20,tokens=32` and has the real engine's face
(add, abort, step) without torch. Its answer to a prompt is a function of the prompt alone, so that
a row can be checked whoever computed it. Some words in a prompt make it misbehave:

    [[fail]]    this row ends in an error
    [[crash]]   the process dies at once, without a word
    [[abort]]   the process dies of a fatal signal, as from a fault in native code
    [[raise]]   the step raises, as when the device is lost
    [[hang]]    the step never ends
    [[long]]    the row goes on until it is aborted (or has 100,000 tokens)
    [[say]]     what follows it is the answer, a few characters at a time
"""

import hashlib
import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from ..engine.outputs import FinishReason, Request, RequestError, StepOutput, TokenLogprobs
from ..engine.tool_calls import ToolFormat
from .errors import CorruptModel

PREFIX = "fake:"
WORDS = ("water", "river", "turbine", "valve", "lake", "pipe", "stream", "dam")
SAY = "[[say]]"
DIMENSIONS = 8  # of the vectors it makes up
_LONG = 100_000
_SAID_AT_ONCE = 5  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeModel:
    """What a fake model's name says. Times are those of one step, whatever its batch."""

    step_ms: float = 2.0
    tokens: int = 8  # of every answer, unless max_tokens is smaller
    load_s: float = 0.0
    context: int = 100_000
    chat: int = 1  # 0: the model has no chat template
    calls: str = "hermes"  # how it writes tool calls; empty: it does not
    weights: str = ""  # a file that must hold the word "sound", or the model is corrupt
    revision: str = ""  # a file that names the revision, read when the engine starts
    journal: str = ""  # a file that gets a line for every sample begun and ended: see `Journal`

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Read `fake:key=value;key=value`; commas do too, but not in PENSTOCK_MODELS.

        Raises:
            ValueError: a key is unknown, or its value is of the wrong kind.
        """
        known: dict[str, Any] = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for item in filter(None, re.split("[,;]", name.removeprefix(PREFIX))):
            key, _, text = item.partition("=")
            if key not in known:
                raise ValueError(f"{name}: unknown key {key!r}; known: {', '.join(known)}")
            values[key] = known[key](text)
        return cls(**values)


@dataclass(frozen=True, slots=True)
class FakeStats:
    """The figures the worker asks an engine for."""

    steps: int
    kv_used_fraction: float
    generated_tokens: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0


class Journal:
    """What was computed, and when: more than lands, for whoever counts what was computed in vain.

    A line holds nanoseconds since 1970, `begin` or `end`, the request's id and tokens so far. It is
    appended in one write, so that several engines may share the file.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def note(self, what: str, request_id: str, num_tokens: int) -> None:
        """Append one line."""
        os.write(self._file, f"{time.time_ns()} {what} {request_id} {num_tokens}\n".encode())


class FakeTokenizer:
    """One token per character."""

    def __init__(self, model: FakeModel) -> None:
        self.has_chat_template = bool(model.chat)
        self.tool_format = ToolFormat(model.calls) if model.calls else None

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the characters' numbers."""
        return tuple(map(ord, text))

    def encode_chat(
        self, messages: Sequence[dict[str, Any]], tools: Any = None, **_: Any
    ) -> tuple[int, ...]:
        """Join the messages' contents."""
        return self.encode("\n".join(str(message.get("content")) for message in messages))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the characters of some numbers."""
        return "".join(map(chr, token_ids))


class _Sequence:
    """One sample on its way."""

    __slots__ = ("index", "limit", "request", "text", "words")

    def __init__(self, request: Request, text: str, index: int, limit: int) -> None:
        self.request = request
        self.text = text
        self.index = index
        self.limit = limit
        self.words: list[str] = []


class FakeEngine:
    """Runs up to `slots` samples together; every step adds one word to each of them."""

    def __init__(self, model: FakeModel, *, slots: int) -> None:
        time.sleep(model.load_s)
        if model.weights and Path(model.weights).read_text() != "sound":
            raise CorruptModel(f"{model.weights} is damaged")
        self.model = model
        self.slots = slots
        self.revision = Path(model.revision).read_text() if model.revision else "made-up"
        self.tokenizer = FakeTokenizer(model)
        self.context_window = model.context
        self._journal = Journal(model.journal) if model.journal else None
        self._waiting: deque[_Sequence] = deque()
        self._urgent: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._num_steps = 0
        self._num_tokens = 0

    def add(self, request: Request) -> StepOutput | None:
        """Take a request; None when it is accepted, its error otherwise."""
        num_prompt_tokens = len(request.prompt_token_ids)
        if not 0 < num_prompt_tokens < self.model.context:
            code = "context_length_exceeded" if num_prompt_tokens else "invalid_request"
            message = f"the prompt has {num_prompt_tokens} tokens, of {self.model.context} at most"
            return _failure(request, 0, RequestError(code, message, param="prompt"))
        if max(request.prompt_token_ids) > sys.maxunicode:
            message = f"prompt token ids must be at most {sys.maxunicode}"
            return _failure(request, 0, RequestError(code="invalid_request", message=message))
        text = "".join(map(chr, request.prompt_token_ids))
        most = request.pooling and request.pooling.dimensions
        if most is not None and most > DIMENSIONS:
            message = f"dimensions must be at most {DIMENSIONS}, got {most}"
            refusal = RequestError("invalid_request", message, param="dimensions", stage="validate")
            return _failure(request, 0, refusal)
        limit = min(self.model.tokens, request.params.max_tokens or _LONG)
        said = text.partition(SAY)[2]
        if said:
            limit = min(-(-len(said) // _SAID_AT_ONCE), request.params.max_tokens or _LONG)
        if "[[long]]" in text:
            limit = _LONG
        lane = self._urgent if request.priority == 0 else self._waiting
        lane.extend(_Sequence(request, text, n, limit) for n in range(request.params.n))
        return None

    def abort(self, request_id: str) -> None:
        """Forget a request, without a word."""
        self._running = [s for s in self._running if s.request.request_id != request_id]
        for lane in (self._urgent, self._waiting):
            kept = [s for s in lane if s.request.request_id != request_id]
            lane.clear()
            lane.extend(kept)

    def step(self) -> list[StepOutput]:
        """Admit what fits, then add one word to every running sample; it takes `step_ms`."""
        self._admit()
        time.sleep(self.model.step_ms / 1000)
        self._num_steps += 1
        outputs = [self._advance(sequence) for sequence in self._running]
        self._num_tokens += sum(output.pooled is None for output in outputs)
        self._running = [
            sequence
            for sequence, output in zip(self._running, outputs, strict=True)
            if output.finish_reason is None
        ]
        return outputs

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._running or self._waiting or self._urgent)

    @property
    def num_running(self) -> int:
        """Samples that are being written."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Samples that wait for a slot."""
        return len(self._waiting) + len(self._urgent)

    def stats(self) -> FakeStats:
        """Return what the worker reports."""
        return FakeStats(self._num_steps, len(self._running) / self.slots, self._num_tokens)

    def _admit(self) -> None:
        while self._urgent:  # beyond the slots, as the real engine keeps some in reserve
            self._running.append(self._urgent.popleft())
        while self._waiting and len(self._running) < self.slots:
            self._running.append(self._waiting.popleft())

    def _advance(self, sequence: _Sequence) -> StepOutput:
        request, text = sequence.request, sequence.text
        if "[[crash]]" in text:
            os._exit(1)
        if "[[abort]]" in text:
            os.abort()
        if "[[raise]]" in text:
            raise RuntimeError("the prompt asked for it")
        if "[[hang]]" in text:
            time.sleep(3600)
        if "[[fail]]" in text:
            return _failure(
                request,
                sequence.index,
                RequestError(code="engine_error", message="the prompt asked for it"),
            )
        if request.pooling is not None:
            return StepOutput(
                request_id=request.request_id,
                sample_index=0,
                finish_reason=FinishReason.STOP,
                num_prompt_tokens=len(request.prompt_token_ids),
                pooled=expected_vector(text, request.pooling.dimensions),
            )
        if self._journal is not None and not sequence.words:
            self._journal.note("begin", request.request_id, 0)
        sequence.words.append(_word(text, sequence.index, len(sequence.words)))
        num_words = len(sequence.words)
        if self._journal is not None and num_words >= sequence.limit:
            self._journal.note("end", request.request_id, num_words)
        return StepOutput(
            request_id=request.request_id,
            sample_index=sequence.index,
            text=sequence.words[-1],
            token_ids=(num_words,),
            logprobs=_logprobs(num_words, request.params.logprobs),
            finish_reason=FinishReason.STOP if num_words >= sequence.limit else None,
            num_prompt_tokens=len(request.prompt_token_ids),
            num_completion_tokens=num_words,
        )


def expected_logprob(token_id: int) -> float:
    """Return the log-probability that the engine gives a token."""
    return -token_id / 4


def expected_text(prompt: str, *, num_tokens: int, sample_index: int = 0) -> str:
    """Return what the engine answers to a prompt."""
    return "".join(_word(prompt, sample_index, number) for number in range(num_tokens))


def expected_vector(prompt: str, dimensions: int | None = None) -> tuple[float, ...]:
    """Return the vector that the engine gives a prompt."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=DIMENSIONS).digest()
    numbers = [byte - 127.5 for byte in digest[:dimensions]]
    length = math.hypot(*numbers)
    return tuple(number / length for number in numbers)


def _logprobs(token_id: int, num_top: int | None) -> tuple[TokenLogprobs, ...] | None:
    """Make up how likely a token was, and that the next ones were the likeliest beside it."""
    if num_top is None:
        return None
    top = ((each, expected_logprob(each)) for each in range(token_id, token_id + num_top))
    return (TokenLogprobs(token_id, expected_logprob(token_id), tuple(top)),)


def _word(prompt: str, sample_index: int, number: int) -> str:
    if "[[long]]" in prompt:
        return "drip "
    if SAY in prompt:
        begin = number * _SAID_AT_ONCE
        return prompt.partition(SAY)[2][begin : begin + _SAID_AT_ONCE]
    key = f"{sample_index}/{number}/{prompt}".encode()
    return WORDS[hashlib.blake2b(key, digest_size=1).digest()[0] % len(WORDS)] + " "


def _failure(request: Request, sample_index: int, error: RequestError) -> StepOutput:
    return StepOutput(
        request_id=request.request_id,
        sample_index=sample_index,
        finish_reason=FinishReason.ERROR,
        error=error,
        num_prompt_tokens=len(request.prompt_token_ids),
    )
