"""The engine for a script: a list of prompts in, a list of outputs out, in the same order.

Knows one process and no queue. A row that cannot run comes back with an error; the others run.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from .config import EngineConfig
from .engine import Engine
from .outputs import FinishReason, Request, RequestError, StepOutput, TokenLogprobs
from .pooling import Pooling, PoolingKind
from .progress_bar import progress_bar
from .sampling_params import SamplingParams
from .tokenizer import Message, Tokenizer, Tool

_Prompt = str | Sequence[int]
_Row = tuple[int, ...] | RequestError
_FEED_FACTOR = 4  # requests kept waiting, per slot: enough to choose from, few enough to hold


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One sample of one prompt."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    logprobs: tuple[TokenLogprobs, ...] | None = None
    error: RequestError | None = None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """What became of one prompt. `outputs` has one entry per sample, or one that tells the error.

    Attributes:
        prompt: the text that was given, None if tokens or messages were.
        num_cached_tokens: prompt tokens that the first sample found computed already.
        prompt_logprobs: one record per token of the prompt, None for the first, if asked for.
    """

    prompt: str | None
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    num_cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None

    @property
    def error(self) -> RequestError | None:
        """The first error among the samples, if there is one."""
        return next((output.error for output in self.outputs if output.error), None)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingOutput:
    """What became of one prompt that was to be embedded: float32 numbers, none if it failed."""

    embedding: np.ndarray
    prompt_token_ids: tuple[int, ...]
    error: RequestError | None = None


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """What became of one prompt that was to be scored: one score per label, none if it failed."""

    scores: tuple[float, ...]
    prompt_token_ids: tuple[int, ...]
    error: RequestError | None = None


class LLM:
    """A model loaded into this process.

    Args:
        model: a directory, a Hugging Face id or "penstock-demo".
        dtype: "auto", "float32", "bfloat16" or "float16".
        max_num_seqs: rows that run together; 0 for 256 on a GPU and fewer on a CPU.
        max_num_batched_tokens: tokens in a step; 0 for 8192 on a GPU and fewer on a CPU.
        kv_cache_gb: size of the key-value cache in GiB; None for what there is room for.
        options: any other field of `EngineConfig`.

    Raises:
        ModelNotFound, UnsupportedModel, CorruptCheckpoint, UnsupportedTokenizer: see there.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        max_num_seqs: int = 0,
        max_num_batched_tokens: int = 0,
        kv_cache_gb: float | None = None,
        **options: Any,
    ) -> None:
        self.engine = Engine(
            EngineConfig(
                model=str(model),
                dtype=dtype,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
                kv_cache_gb=kv_cache_gb,
                **options,
            ),
            reserved_interactive_seqs=0,  # nobody else is here
        )
        self._request_numbers = count()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    def generate(
        self,
        prompts: _Prompt | Sequence[_Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = True,
    ) -> list[RequestOutput]:
        """Complete each prompt, given as text or as token ids; outputs come in input order.

        Args:
            prompts: one prompt or a list of them.
            sampling_params: one for all, or one for each.
            progress: draw a bar, if there is a terminal.

        Raises:
            ValueError: there are not as many `sampling_params` as prompts.
        """
        texts, rows = self._encoded(prompts)
        return self._generate(texts, rows, sampling_params, progress=progress)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        tools: Sequence[Tool] | None = None,
        progress: bool = True,
    ) -> list[RequestOutput]:
        """Answer one conversation or each of a list of them, through the model's chat template.

        Raises:
            ValueError: there are not as many `sampling_params` as conversations.
        """
        is_single = bool(messages) and isinstance(messages[0], Mapping)
        conversations: Sequence[Any] = [messages] if is_single else messages
        rows = [self.tokenizer.encode_chat(c, tools=tools) for c in conversations]
        return self._generate([None] * len(rows), rows, sampling_params, progress=progress)

    def embed(
        self,
        prompts: _Prompt | Sequence[_Prompt],
        *,
        pooling: str = PoolingKind.LAST,
        normalize: bool = True,
        dimensions: int | None = None,
        progress: bool = True,
    ) -> list[EmbeddingOutput]:
        """Return a vector for each prompt, from the hidden states behind the model's last norm.

        Args:
            prompts: one prompt or a list of them, as text or as token ids.
            pooling: "last" takes the last token's hidden state, "mean" the mean over all tokens.
            normalize: scale each vector to length 1.
            dimensions: keep so many leading numbers of each, before that.

        Raises:
            ValueError: `pooling` is neither of these, or `dimensions` is below 1.
        """
        kind = PoolingKind(pooling)
        if kind is PoolingKind.SCORE:
            raise ValueError("pooling must be 'last' or 'mean'; `score` is for classifiers")
        wanted = Pooling(kind, normalize=normalize, dimensions=dimensions)
        outputs = self._pool(prompts, wanted, progress=progress)
        return [
            EmbeddingOutput(np.array(output.pooled or (), np.float32), row, output.error)
            for row, output in outputs
        ]

    def score(
        self, prompts: _Prompt | Sequence[_Prompt], *, progress: bool = True
    ) -> list[ScoreOutput]:
        """Return what a classifier's or reward model's head makes of each prompt, unscaled."""
        outputs = self._pool(prompts, Pooling(PoolingKind.SCORE), progress=progress)
        return [ScoreOutput(output.pooled or (), row, output.error) for row, output in outputs]

    def _pool(
        self, prompts: _Prompt | Sequence[_Prompt], pooling: Pooling, *, progress: bool
    ) -> list[tuple[tuple[int, ...], StepOutput]]:
        """Return each prompt's tokens and its one output."""
        _, rows = self._encoded(prompts)

        def request(number: str, place: int, row: tuple[int, ...]) -> Request:
            return Request(number, row, SamplingParams(), stream_interval=0, pooling=pooling)

        outputs = [only for (only,) in self._run(rows, request, progress=progress)]
        tokens = [() if isinstance(row, RequestError) else row for row in rows]
        return list(zip(tokens, outputs, strict=True))

    def _encoded(self, prompts: _Prompt | Sequence[_Prompt]) -> tuple[list[str | None], list[_Row]]:
        """Return the prompts' texts, where they are texts, and their tokens."""
        listed = _listed(prompts)
        texts = [prompt if isinstance(prompt, str) else None for prompt in listed]
        encoded = iter(self.tokenizer.encode_batch([text for text in texts if text is not None]))
        return texts, [next(encoded) if isinstance(p, str) else _token_ids(p) for p in listed]

    def _generate(
        self,
        texts: Sequence[str | None],
        rows: Sequence[_Row],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        *,
        progress: bool,
    ) -> list[RequestOutput]:
        params = _one_for_each(sampling_params, len(rows))

        def request(number: str, place: int, row: tuple[int, ...]) -> Request:
            return Request(number, row, params[place], stream_interval=0)

        samples = self._run(rows, request, progress=progress)
        return [
            _request_output(text, row, outputs)
            for text, row, outputs in zip(texts, rows, samples, strict=True)
        ]

    def _run(
        self,
        rows: Sequence[_Row],
        request: Callable[[str, int, tuple[int, ...]], Request],
        *,
        progress: bool,
    ) -> list[list[StepOutput]]:
        """Run a request for each row; `request` makes it of an id, the row's place and tokens."""
        numbers = [str(next(self._request_numbers)) for _ in rows]
        place_of = {number: place for place, number in enumerate(numbers)}
        samples: list[list[StepOutput]] = [[] for _ in rows]
        valid: list[tuple[tuple[int, ...], int]] = []
        for place, row in enumerate(rows):
            if isinstance(row, RequestError):
                samples[place] = [_refused(numbers[place], row)]
            else:
                valid.append((row, place))
        # In order of their tokens, prompts with a common beginning run next to each other.
        queue = deque(sorted(valid))
        room = _FEED_FACTOR * self.engine.config.max_num_seqs
        num_left = [0] * len(rows)
        try:
            with progress_bar(len(valid), visible=progress) as advance:
                while queue or self.engine.has_work:
                    while queue and self.engine.num_waiting < room:
                        tokens, place = queue.popleft()
                        made = request(numbers[place], place, tokens)
                        num_left[place] = 1 if made.pooling else made.params.n
                        refusal = self.engine.add(made)
                        if refusal is not None:
                            samples[place] = [refusal]
                            advance(1, 0)
                    for output in self.engine.step():
                        place = place_of[output.request_id]
                        samples[place].append(output)
                        num_left[place] -= 1
                        advance(int(not num_left[place]), output.num_completion_tokens)
        finally:  # an interrupted call leaves nothing behind
            for number in numbers:
                self.engine.abort(number)
            while self.engine.has_work:
                self.engine.step()
        return samples


def _listed(prompts: object) -> list[Any]:
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping | bytes | bytearray):
        raise TypeError(
            f"prompts must be text, token ids or a list of them, got {type(prompts).__name__}"
        )
    listed = list(prompts)
    return [listed] if listed and isinstance(listed[0], int) else listed


def _token_ids(prompt: object) -> _Row:
    is_bytes = isinstance(prompt, bytes | bytearray)  # of which Python makes integers, too
    if isinstance(prompt, Sequence) and not is_bytes and all(isinstance(i, int) for i in prompt):
        return tuple(prompt)
    return RequestError(
        code="invalid_request",
        message=f"a prompt must be text or a list of token ids, got {str(prompt)[:80]!r}",
        param="prompt",
        stage="validate",
    )


def _one_for_each(
    params: SamplingParams | Sequence[SamplingParams] | None, num_rows: int
) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * num_rows
    if isinstance(params, Mapping):
        raise TypeError("sampling_params must be SamplingParams, got a mapping: unpack it with **")
    if len(params) != num_rows:
        raise ValueError(
            f"sampling_params must be one, or one for each of {num_rows} prompts, got {len(params)}"
        )
    return list(params)


def _refused(request_id: str, error: RequestError) -> StepOutput:
    return StepOutput(request_id, 0, finish_reason=FinishReason.ERROR, error=error)


def _request_output(text: str | None, row: _Row, outputs: list[StepOutput]) -> RequestOutput:
    outputs = sorted(outputs, key=lambda output: output.sample_index)
    return RequestOutput(
        prompt=text,
        prompt_token_ids=() if isinstance(row, RequestError) else row,
        outputs=tuple(
            CompletionOutput(
                index=output.sample_index,
                text=output.text,
                token_ids=output.token_ids,
                finish_reason=output.finish_reason or FinishReason.ABORT,
                stop_reason=output.stop_reason,
                logprobs=output.logprobs,
                error=output.error,
            )
            for output in outputs
        ),
        num_cached_tokens=outputs[0].num_cached_tokens,
        prompt_logprobs=outputs[0].prompt_logprobs,
    )
