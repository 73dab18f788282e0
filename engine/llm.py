"""The engine for a script: a list of prompts in, a list of outputs out, in the same order.

Knows one process and no queue. A row that cannot run comes back with an error; the others run.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from .config import EngineConfig
from .engine import Engine
from .outputs import FinishReason, Request, RequestError, StepOutput, TokenLogprobs
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
        if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
            listed: list[Any] = [prompts]
        else:
            listed = list(prompts)
        texts = [prompt if isinstance(prompt, str) else None for prompt in listed]
        encoded = iter(self.tokenizer.encode_batch([text for text in texts if text is not None]))
        rows = [next(encoded) if isinstance(p, str) else _token_ids(p) for p in listed]
        return self._run(texts, rows, sampling_params, progress=progress)

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
        return self._run([None] * len(rows), rows, sampling_params, progress=progress)

    def _run(
        self,
        texts: Sequence[str | None],
        rows: Sequence[_Row],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        *,
        progress: bool,
    ) -> list[RequestOutput]:
        params = _one_for_each(sampling_params, len(rows))
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
        try:
            with _progress_bar(len(valid), visible=progress) as advance:
                while queue or self.engine.has_work:
                    while queue and self.engine.num_waiting < room:
                        tokens, place = queue.popleft()
                        request = Request(numbers[place], tokens, params[place], stream_interval=0)
                        refusal = self.engine.add(request)
                        if refusal is not None:
                            samples[place] = [refusal]
                            advance(1, 0)
                    for output in self.engine.step():
                        finished = samples[place_of[output.request_id]]
                        finished.append(output)
                        is_whole = len(finished) == params[place_of[output.request_id]].n
                        advance(int(is_whole), output.num_completion_tokens)
        finally:  # an interrupted call leaves nothing behind
            for number in numbers:
                self.engine.abort(number)
            while self.engine.has_work:
                self.engine.step()
        return [
            _request_output(text, row, outputs)
            for text, row, outputs in zip(texts, rows, samples, strict=True)
        ]


def _token_ids(prompt: object) -> _Row:
    if isinstance(prompt, Sequence) and all(isinstance(i, int) for i in prompt):
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


@contextmanager
def _progress_bar(num_rows: int, *, visible: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes finished rows and new tokens; it draws on a terminal only."""
    if not visible or not sys.stderr.isatty():
        yield lambda rows, tokens: None
        return
    from rich.console import Console  # a bare GPU box need not have it
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    speed = TextColumn("{task.fields[tokens]:,} tokens")
    columns = (BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("generate", total=num_rows, tokens=0)
        num_tokens = 0

        def advance(rows: int, tokens: int) -> None:
            nonlocal num_tokens
            num_tokens += tokens
            bar.update(task, advance=rows, tokens=num_tokens)

        yield advance
