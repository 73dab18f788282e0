"""One shard on its way through the engine: rows go in, samples come out. Knows no thread.

SealedRow -> (rendered, tokenized) -> Request -> StepOutput... -> LandedRow, one per sample
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ..engine.outputs import FinishReason, Request, RequestError, StepOutput
from .frames import RunShard, ShardProgress
from .landing import LandedRow
from .model import JobSpec, RowStatus
from .parsed_column import canonical_json
from .sealed_input import SealedRow
from .suspects import Suspects
from .tool_use import TOOL_CALLS, Parsed, ToolFormat, call_ids, parse_tool_calls

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

    __slots__ = ("calls", "ended", "is_json", "sealed", "started_at_ms", "texts")

    def __init__(self, row: PreparedRow, num_samples: int) -> None:
        self.sealed = row.sealed
        self.calls = row.calls
        self.is_json = row.is_json
        self.texts: list[list[str]] = [[] for _ in range(num_samples)]
        self.ended: list[StepOutput | None] = [None] * num_samples
        self.started_at_ms: int | None = None


class ShardRun:
    """Collects what becomes of a shard's rows until all have ended."""

    def __init__(
        self,
        order: RunShard,
        spec: JobSpec,
        rows: list[PreparedRow],
        worker: str,
        suspects: Suspects | None = None,
    ) -> None:
        self.order = order
        self.spec = spec
        self.num_failed = 0
        self.num_tokens = 0
        self._worker = worker
        self._suspects = suspects
        self._num_rows = len(rows)
        self._in_flight: dict[str, _Row] = {}
        self._landed: list[LandedRow] = []
        self._num_done = 0
        requests: list[Request] = []
        for row in rows:
            if isinstance(row.request, RequestError):
                self._fail(row.sealed, row.request)
            else:
                self._in_flight[row.request.request_id] = _Row(row, row.request.params.n)
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

    @property
    def is_careful(self) -> bool:
        """Whether its rows are to run one by one, with no other shard beside them."""
        return self._suspects is not None

    def next_requests(self) -> Iterator[Request]:
        """Yield the requests to hand to the engine now, each once: all, or with care one."""
        if self._suspects is None:
            while self._requests:
                yield self._start(self._requests.popleft())
        elif self._requests:
            request = self._start(self._requests.popleft())
            self._suspects.note_row(self._in_flight[request.request_id].sealed.row_index)
            yield request

    def unfinished(self) -> list[str]:
        """Name the requests that have not ended."""
        return list(self._in_flight)

    def take(self, output: StepOutput) -> bool:
        """Take what a step added to one of this shard's rows; returns whether the row has ended."""
        row = self._in_flight[output.request_id]
        row.texts[output.sample_index].append(output.text)
        self.num_tokens += len(output.token_ids)
        if output.finish_reason is None:
            return False
        row.ended[output.sample_index] = output
        if None in row.ended:
            return False
        del self._in_flight[output.request_id]
        self._row_ended()
        self._finish(row)
        return True

    def refuse(self, refusal: StepOutput) -> None:
        """Take the engine's refusal of a row; it stands for all of the row's samples."""
        row = self._in_flight.pop(refusal.request_id)
        self._row_ended()
        self._fail(row.sealed, refusal.error or NO_REASON, refusal.num_prompt_tokens)

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
        )

    def _start(self, request: Request) -> Request:
        self._in_flight[request.request_id].started_at_ms = _now_ms()
        return request

    def _row_ended(self) -> None:
        if self._suspects is not None:
            self._suspects.note_row_ended()

    def _finish(self, row: _Row) -> None:
        outputs = [output for output in row.ended if output is not None]
        for output, texts in zip(outputs, row.texts, strict=True):
            is_ok = output.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
            said = self._read(row, output.sample_index, "".join(texts)) if is_ok else Parsed()
            is_call = said.calls and output.finish_reason is FinishReason.STOP
            self._landed.append(
                LandedRow(
                    row_index=row.sealed.row_index,
                    custom_id=row.sealed.custom_id,
                    sample_index=output.sample_index,
                    status=RowStatus.SUCCEEDED if is_ok else RowStatus.FAILED,
                    output=(said.text or None if said.calls else said.text) if is_ok else None,
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
                )
            )
        self._num_done += 1
        self.num_failed += any(output.error is not None for output in outputs)

    def _read(self, row: _Row, sample_index: int, text: str) -> Parsed:
        """Tell the calls in an answer from its text; a row run again gives them the same ids."""
        if row.calls is None:
            return Parsed(text)
        row_id = f"{self.order.job_id}/{row.sealed.row_index}/{sample_index}"
        return parse_tool_calls(row.calls, text, call_ids(of=row_id))

    def _fail(self, sealed: SealedRow, error: RequestError, num_prompt_tokens: int = 0) -> None:
        now_ms = _now_ms()
        self._landed.append(
            LandedRow(
                row_index=sealed.row_index,
                custom_id=sealed.custom_id,
                status=RowStatus.FAILED,
                finish_reason=FinishReason.ERROR,
                prompt_tokens=num_prompt_tokens,
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
