"""The loop around the engine: what arrives goes in, what a step brings goes where it belongs.

Knows the engine's face (add, abort, step), neither sockets nor disks. Everything that reaches it
comes through one inbox, and one thread does everything else.
"""

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..engine.outputs import (
    FinishReason,
    Priority,
    Request,
    RequestError,
    StepOutput,
)
from .frames import (
    AbortRequest,
    AbortShard,
    Delta,
    Deltas,
    Progress,
    ShardFailed,
    ShardLanded,
    TrySuspects,
)
from .generation_engine import GenerationEngine
from .model import SamplingParams
from .open_request import OpenRequest
from .prompt_encoder import Tokenizer
from .quarantine import Quarantine
from .shard_run import NO_REASON, ShardRun
from .token_entries import TokenEntries, TokenTexts
from .tool_use import ToolFormat
from .vectors import pack

PROGRESS_S = 0.25
CANARY_S = 10.0
_CANARY = "canary"
_TIMED_STEPS = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Interactive:
    """An interactive request ready for the engine, or the reason why it never gets there."""

    request_id: str
    request: Request | RequestError
    calls: ToolFormat | None = None  # how its answer writes tool calls, if it may call any
    echo: str = ""  # the prompt, where the answer is to begin with it


ShardKey = tuple[str, int, int]  # job, shard, attempt
Arrival = (
    ShardRun | Interactive | AbortShard | AbortRequest | ShardLanded | ShardFailed | TrySuspects
)


class EngineLoop:
    """Runs an engine for ever. `inbox` may be fed by any thread."""

    def __init__(
        self,
        engine: GenerationEngine,
        tokenizer: Tokenizer,
        *,
        send: Callable[[Deltas | Progress], None],
        on_shard_done: Callable[[ShardRun], None],
        num_unread_shards: Callable[[], int],
    ) -> None:
        self.inbox: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self.proved_at_ms = 0
        self._engine = engine
        self._tokenizer = tokenizer
        self._texts = TokenTexts(tokenizer)
        self._entries = TokenEntries(self._texts)
        self._send = send
        self._on_shard_done = on_shard_done
        self._num_unread_shards = num_unread_shards
        self._shards: dict[ShardKey, ShardRun] = {}
        self._unfed: dict[ShardKey, ShardRun] = {}  # those whose rows the engine has not got yet
        self._quarantine = Quarantine()
        self._landing: dict[ShardKey, ShardRun] = {}
        self._shard_of: dict[str, ShardRun] = {}
        self._open: dict[str, OpenRequest] = {}
        self._num_steps = 0
        self._step_times_s: deque[float] = deque(maxlen=_TIMED_STEPS)
        self._proved_at_s = float("-inf")
        self._progress_at_s = 0.0
        self._next_canary_s = 0.0

    def prove(self) -> None:
        """Send one token through the engine; returns when it is out."""
        self._add_canary()
        while _CANARY in self._open:
            self._step()

    def run(self) -> None:
        """Take arrivals, step, report; never returns."""
        self._report()
        while True:
            self.turn()

    def turn(self) -> None:
        """Do once what the loop does for ever."""
        self._feed_shards()
        self._try_suspects()
        self._take_arrivals()
        if self._engine.has_work:
            self._step()
        elif time.monotonic() > max(self._proved_at_s + CANARY_S, self._next_canary_s):
            self._add_canary()
        if time.monotonic() - self._progress_at_s >= PROGRESS_S:
            self._report()

    def _take_arrivals(self) -> None:
        try:
            arrival = self.inbox.get(timeout=0 if self._engine.has_work else PROGRESS_S)
            while True:
                self._take(arrival)
                arrival = self.inbox.get_nowait()
        except queue.Empty:
            return

    def _take(self, arrival: Arrival) -> None:
        match arrival:
            case ShardRun():
                self._shards[arrival.key] = arrival
                self._unfed[arrival.key] = arrival
            case TrySuspects():
                self._quarantine.is_open = arrival.is_on
            case ShardLanded() | ShardFailed():
                self._landing.pop((arrival.job_id, arrival.index, arrival.attempt), None)
            case Interactive():
                self._begin_request(arrival)
            case AbortShard():
                self._abort_shard((arrival.job_id, arrival.index, arrival.attempt))
            case AbortRequest():
                if self._open.pop(arrival.request_id, None) is not None:
                    self._engine.abort(arrival.request_id)

    def _feed_shards(self) -> None:
        """Hand the rows that nobody suspects to the engine, unless one is to run alone."""
        while self._unfed and not self._quarantine.must_wait(self._shards.values()):
            run = self._unfed.pop(next(iter(self._unfed)))
            self._hand_over(run, run.next_requests())

    def _try_suspects(self) -> None:
        trial = self._quarantine.admit(self._shards.values(), is_engine_empty=not self._shard_of)
        if trial is not None:
            self._hand_over(*trial)

    def _hand_over(self, run: ShardRun, requests: Iterable[Request]) -> None:
        for request in requests:
            refusal = self._engine.add(request)
            if refusal is None:
                self._shard_of[request.request_id] = run
            else:
                run.refuse(refusal)
        if run.is_done:
            self._finish(run)

    def _finish(self, run: ShardRun) -> None:
        del self._shards[run.key]
        self._unfed.pop(run.key, None)
        self._landing[run.key] = run
        self._on_shard_done(run)

    def _abort_shard(self, key: ShardKey) -> None:
        run = self._shards.pop(key, None)
        if run is None:  # landing already
            return
        self._unfed.pop(key, None)
        self._quarantine.drop(run)
        for request_id in run.unfinished():
            if self._shard_of.pop(request_id, None) is not None:
                self._engine.abort(request_id)
        run.close()

    def _begin_request(self, item: Interactive) -> None:
        if isinstance(item.request, RequestError):
            self._send(Deltas((_refusal(item.request_id, item.request),)))
            return
        refusal = self._engine.add(item.request)
        if refusal is not None:
            self._send(Deltas((_refusal(item.request_id, refusal.error or NO_REASON),)))
        else:
            self._open[item.request_id] = OpenRequest(item.request, item.calls, item.echo)

    def _step(self) -> None:
        started_s = time.monotonic()
        outputs = self._engine.step()
        self._step_times_s.append(time.monotonic() - started_s)
        self._num_steps += 1
        deltas: list[Delta] = []
        gained: dict[ShardKey, ShardRun] = {}
        for output in outputs:
            run = self._shard_of.get(output.request_id)
            if run is not None:
                if run.take(output, self._texts):
                    del self._shard_of[output.request_id]
                    gained[run.key] = run
            elif output.request_id in self._open:
                deltas.append(self._delta(output))
        for run in gained.values():
            self._rows_ended(run)
        if outputs:
            self._proved_at_s = time.monotonic()
            self.proved_at_ms = time.time_ns() // 1_000_000
        deltas = [delta for delta in deltas if delta.request_id != _CANARY]
        if deltas:
            self._send(Deltas(tuple(deltas)))

    def _rows_ended(self, run: ShardRun) -> None:
        if run.is_done:
            self._finish(run)
        else:
            run.save()

    def _delta(self, output: StepOutput) -> Delta:
        request = self._open[output.request_id]
        text, calls, reason = request.read(output)
        if request.is_over:
            del self._open[output.request_id]
        logprobs = None
        if output.logprobs is not None:
            logprobs = self._entries.of_output(output.logprobs)
        if output.prompt_logprobs is not None:  # of a prompt that is part of the answer
            prompt = self._entries.of_prompt(output.prompt_logprobs, request.first_token_id)
            logprobs = prompt + (logprobs or ())
        return Delta(
            request_id=output.request_id,
            sample_index=output.sample_index,
            text=text,
            tool_calls=calls,
            token_ids=output.token_ids,
            logprobs=logprobs,
            finish_reason=reason,
            stop_reason=output.stop_reason,
            error=output.error,
            prompt_tokens=output.num_prompt_tokens,
            completion_tokens=output.num_completion_tokens,
            cached_tokens=output.num_cached_tokens,
            is_last=request.is_over,
            vector=None if output.pooled is None else pack(output.pooled),
        )

    def _add_canary(self) -> None:
        self._next_canary_s = time.monotonic() + CANARY_S
        token_ids = self._tokenizer.encode("a")
        params = SamplingParams(max_tokens=1, temperature=0.0)
        if not isinstance(token_ids, RequestError) and _CANARY not in self._open:
            request = Request(_CANARY, tuple(token_ids), params, priority=Priority.INTERACTIVE)
            self._begin_request(Interactive(_CANARY, request))

    def _report(self) -> None:
        self._progress_at_s = time.monotonic()
        stats = self._engine.stats()
        self._send(
            Progress(
                steps=self._num_steps,
                slow_step_s=_percentile_99(self._step_times_s),
                running_rows=self._engine.num_running,
                waiting_rows=self._engine.num_waiting,
                unread_shards=self._num_unread_shards(),
                tokens=stats.generated_tokens,
                kv_used_fraction=stats.kv_used_fraction,
                proved_at_ms=self.proved_at_ms,
                prompt_tokens=stats.prompt_tokens,
                cached_tokens=stats.cached_tokens,
                preemptions=stats.preemptions,
                shards=tuple(
                    run.progress()
                    for runs in (self._shards.values(), self._landing.values())
                    for run in runs
                ),
            )
        )


def _percentile_99(times_s: Sequence[float]) -> float:
    return sorted(times_s)[len(times_s) * 99 // 100] if times_s else 0.0


def _refusal(request_id: str, error: RequestError) -> Delta:
    return Delta(request_id=request_id, error=error, finish_reason=FinishReason.ERROR, is_last=True)
