"""One shard on its way through the engine: rows go in, samples come out. Knows no thread.

SealedRow -> (rendered, tokenized) -> Request -> StepOutput... -> LandedRow, one per sample
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..engine.outputs import FinishReason, Request, RequestError, StepOutput, TokenLogprobs
from .frames import RunShard, ShardProgress
from .journal import Journal
from .landed_logprobs import pack_logprobs
from .landing import LandedRow
from .model import JobSpec, RowStatus
from .parsed_column import canonical_json
from .sealed_input import SealedRow
from .suspects import Suspects
from .tool_use import TOOL_CALLS, Parsed, ToolFormat, call_ids, parse_tool_calls
from .vectors import pack

NO_REASON = RequestError(code="engine_error", message="the engine refused it and did not say why")


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """A row ready for the engine, or the reason why it never gets there."""

    sealed: SealedRow
    request: Request | RequestError
    calls: ToolFormat | None = None  # how its answer writes tool calls, if it may call any
    is_json: bool = False  # whether its answer is to be a JSON document


class _Row:
    """A row in flight: its samples' text so far, and the samples that ended."""

    __slots__ = (
        *("calls", "ended", "is_json", "is_suspect", "logprobs", "sealed", "started_at_ms"),
        "texts",
    )

    def __init__(self, row: PreparedRow, num_samples: int, *, is_suspect: bool) -> None:
        self.sealed = row.sealed
        self.is_suspect = is_suspect
        self.calls = row.calls
        self.is_json = row.is_json
        self.texts: list[list[str]] = [[] for _ in range(num_samples)]
        self.logprobs: dict[int, list[TokenLogprobs]] = {}  # by sample, where they are asked for
        self.ended: list[StepOutput | None] = [None] * num_samples
        self.started_at_ms: int | None = None


class ShardRun:
    """Collects what becomes of a shard's rows until all have ended.

    Rows go to the engine in two ways: those that nobody suspects all at once, by `next_requests`;
    suspects a group at a time, by `begin_trial`, when it is their turn (see `quarantine`).
    """

    def __init__(
        self,
        order: RunShard,
        spec: JobSpec,
        rows: list[PreparedRow],
        worker: str,
        *,
        suspects: Suspects,
        journal: Journal,
        finished: Iterable[Sequence[LandedRow]] = (),
    ) -> None:
        self.order = order
        self.spec = spec
        self.suspects = suspects
        self.journal = journal
        self.num_failed = 0
        self.num_tokens = 0
        self._worker = worker
        self._num_rows = len(rows)
        self._in_flight: dict[str, _Row] = {}
        self._landed: list[LandedRow] = []
        self._unsaved: list[list[LandedRow]] = []
        self._num_done = 0
        requests: list[Request] = []
        self._suspected: dict[int, Request] = {}
        for samples in finished:
            self._num_rows += 1
            self._count_finished(samples)
        suspected = suspects.rows
        for row in rows:
            index = row.sealed.row_index
            if isinstance(row.request, RequestError):
                self._fail(row.sealed, row.request)
                continue
            is_suspect = index in suspected
            held = _Row(row, row.request.params.n, is_suspect=is_suspect)
            self._in_flight[row.request.request_id] = held
            if is_suspect:
                self._suspected[index] = row.request
            else:
                requests.append(row.request)
        # Side by side, prompts that begin alike share their blocks; landing sorts the rows again.
        self._requests = deque(sorted(requests, key=lambda request: request.prompt_token_ids))

    @property
    def key(self) -> tuple[str, int, int]:
        """Job, shard and attempt: what names this run."""
        return self.order.job_id, self.order.index, self.order.attempt

    @property
    def is_done(self) -> bool:
        """Whether every row has ended."""
        return self._num_done == self._num_rows

    def next_requests(self) -> Iterator[Request]:
        """Yield the requests to hand to the engine now, each once."""
        self.journal.begin()
        while self._requests:
            yield self._start(self._requests.popleft())

    def begin_trial(self) -> list[Request]:
        """Return the requests of the suspects whose turn it is."""
        self.journal.begin()
        return [self._start(self._suspected.pop(row)) for row in self.suspects.begin_trial()]

    def unfinished(self) -> list[str]:
        """Name the requests that have not ended."""
        return list(self._in_flight)

    def take(self, output: StepOutput, text_of: Callable[[int], str]) -> bool:
        """Take what a step added to one of this shard's rows; returns whether the row has ended.

        `text_of` tells the text of a token, for those whose log-probabilities are to land.
        """
        row = self._in_flight[output.request_id]
        row.texts[output.sample_index].append(output.text)
        self.num_tokens += len(output.token_ids)
        if output.logprobs is not None:
            row.logprobs.setdefault(output.sample_index, []).extend(output.logprobs)
        if output.finish_reason is None:
            return False
        row.ended[output.sample_index] = output
        if None in row.ended:
            return False
        del self._in_flight[output.request_id]
        self._finish(row, text_of)
        return True

    def refuse(self, refusal: StepOutput) -> None:
        """Take the engine's refusal of a row; it stands for all of the row's samples.

        None of its tokens were computed, so none are counted.
        """
        row = self._in_flight.pop(refusal.request_id)
        if row.is_suspect:
            self.suspects.clear(row.sealed.row_index)
        self._fail(row.sealed, refusal.error or NO_REASON)

    def save(self) -> None:
        """Keep the rows that have ended since the last time, whatever happens to this process."""
        self.journal.append(self._unsaved)
        self._unsaved.clear()

    def close(self) -> None:
        """Let go of the shard before it is done: somebody else has it, or its job has ended."""
        if self.suspects.is_on_trial:
            self.suspects.break_off()
        self.journal.close()

    def remove_traces(self) -> None:
        """Forget what was only to be remembered until the shard has landed."""
        self.suspects.remove()
        self.journal.remove()

    def landed_rows(self) -> list[LandedRow]:
        """Return the rows as they are to land."""
        return self._landed

    def progress(self) -> ShardProgress:
        """Say how far it is."""
        return ShardProgress(
            *self.key,
            rows=self._num_done,
            total=self._num_rows,
            failed=self.num_failed,
            completion_tokens=self.num_tokens,
            suspects=self.suspects.num_narrow,
        )

    def _start(self, request: Request) -> Request:
        self._in_flight[request.request_id].started_at_ms = _now_ms()
        return request

    def _finish(self, row: _Row, text_of: Callable[[int], str]) -> None:
        outputs = [output for output in row.ended if output is not None]
        samples: list[LandedRow] = []
        for output, texts in zip(outputs, row.texts, strict=True):
            logprobs = row.logprobs.get(output.sample_index)
            is_ok = output.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
            said = self._read(row, output.sample_index, "".join(texts)) if is_ok else Parsed()
            is_call = said.calls and output.finish_reason is FinishReason.STOP
            has_text = is_ok and output.pooled is None
            samples.append(
                LandedRow(
                    row_index=row.sealed.row_index,
                    custom_id=row.sealed.custom_id,
                    sample_index=output.sample_index,
                    status=RowStatus.SUCCEEDED if is_ok else RowStatus.FAILED,
                    output=(said.text or None if said.calls else said.text) if has_text else None,
                    output_json=canonical_json(said.text) if is_ok and row.is_json else None,
                    tool_calls=said.calls,
                    finish_reason=TOOL_CALLS if is_call else output.finish_reason,
                    prompt_tokens=output.num_prompt_tokens,
                    completion_tokens=output.num_completion_tokens,
                    cached_tokens=output.num_cached_tokens,
                    error=output.error,
                    attempts=self.order.tries,
                    worker=self._worker,
                    queued_at_ms=self.spec.created_at_ms,
                    started_at_ms=row.started_at_ms,
                    finished_at_ms=_now_ms(),
                    columns=row.sealed.row,
                    embedding=None if output.pooled is None else pack(output.pooled),
                    logprobs=None if logprobs is None else pack_logprobs(logprobs, text_of),
                )
            )
        self._landed += samples
        self._unsaved.append(samples)
        self._num_done += 1
        self.num_failed += any(output.error is not None for output in outputs)
        if row.is_suspect:
            self.suspects.clear(row.sealed.row_index)

    def _count_finished(self, samples: Sequence[LandedRow]) -> None:
        """Take over a row that an earlier attempt has finished."""
        self._landed += samples
        self._num_done += 1
        self.num_failed += any(sample.error is not None for sample in samples)
        self.num_tokens += sum(sample.completion_tokens for sample in samples)

    def _read(self, row: _Row, sample_index: int, text: str) -> Parsed:
        """Tell the calls in an answer from its text; a row run again gives them the same ids."""
        if row.calls is None:
            return Parsed(text)
        row_id = f"{self.order.job_id}/{row.sealed.row_index}/{sample_index}"
        return parse_tool_calls(row.calls, text, call_ids(of=row_id))

    def _fail(self, sealed: SealedRow, error: RequestError) -> None:
        now_ms = _now_ms()
        self._landed.append(
            LandedRow(
                row_index=sealed.row_index,
                custom_id=sealed.custom_id,
                status=RowStatus.FAILED,
                finish_reason=FinishReason.ERROR,
                error=error,
                attempts=self.order.tries,
                worker=self._worker,
                queued_at_ms=self.spec.created_at_ms,
                started_at_ms=now_ms,
                finished_at_ms=now_ms,
                columns=sealed.row,
            )
        )
        self._num_done += 1
        self.num_failed += 1


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
