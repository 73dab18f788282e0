"""The loop: requests in, a step at a time, outputs out. Knows neither sockets nor queues.

The life of a request, in the order in which this file tells it:

    1. add       it is checked, and becomes one sequence for each sample
    2. schedule  the step's sequences are chosen, and how many tokens of each
    3. run       the model computes them: logits for those that have caught up
    4. sample    each of these gets its next token
    5. update    full blocks are shared, endings are found, text is cut at stop strings
    6. collect   what happened is handed out; the last output of a sample says why it ended

Whatever goes wrong with one row ends that row with an error, and no other.
"""

from itertools import count
from typing import Protocol

import torch

from .architecture import ModelArchitecture
from .batch import ScheduledRow, StepBatch, build_step_batch
from .block_pool import BlockPool
from .config import EngineConfig, resolve_model
from .detokenizer import Detokenizer
from .metrics import EngineCounters, EngineStats
from .outputs import FinishReason, Request, RequestError, StepOutput
from .runner import ModelRunner
from .sampler import SampledTokens, sample
from .scheduler import Scheduler
from .sequence import Ending, Sequence
from .tokenizer import Tokenizer

_RESERVED_PART = 16  # one slot in so many is kept for interactive requests


class Runner(Protocol):
    """What the engine asks of a model; `ModelRunner` says what the attributes mean."""

    architecture: ModelArchitecture
    device: torch.device
    num_blocks: int
    block_size: int
    max_model_len: int

    def execute(self, batch: StepBatch) -> torch.Tensor:
        """Run one step and return float32 logits [L, vocab]."""
        ...


class Engine:
    """Runs requests together, as many as fit. One thread at a time may call it.

    Attributes:
        config: the settings it was made with.
        runner, tokenizer: the model's two halves.
        context_window: tokens that one sample can reach, prompt included.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        runner: Runner | None = None,
        tokenizer: Tokenizer | None = None,
        reserved_interactive_seqs: int | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer or Tokenizer.from_directory(resolve_model(config.model))
        self.runner: Runner = runner or ModelRunner(config)
        self._pool = BlockPool(self.runner.num_blocks, self.runner.block_size)
        self.context_window = min(
            self.runner.max_model_len, self._pool.capacity * self._pool.block_size
        )
        if reserved_interactive_seqs is None:
            reserved_interactive_seqs = config.max_num_seqs // _RESERVED_PART
        self._scheduler = Scheduler(
            self._pool,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            reserved_interactive_seqs=reserved_interactive_seqs,
            enable_prefix_caching=config.enable_prefix_caching,
        )
        self._eos_token_ids = frozenset(self.runner.architecture.eos_token_ids)
        self._live: dict[str, list[Sequence]] = {}
        self._arrivals = count()
        self._outputs: list[StepOutput] = []
        self._counters = EngineCounters()

    # -- requests -----------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do or to tell."""
        return bool(self._live or self._outputs)

    @property
    def num_running(self) -> int:
        """Sequences under way."""
        return self._scheduler.num_running

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for room."""
        return self._scheduler.num_waiting

    def add(self, request: Request) -> StepOutput | None:
        """Accept a request; return None, or the one output of a request that cannot run.

        Raises:
            ValueError: a live request has the same id.
        """
        if request.request_id in self._live:
            raise ValueError(f"request_id must be unique, {request.request_id!r} is still running")
        error = self._refusal(request)
        if error is not None:
            self._counters.errors += 1
            return StepOutput(
                request.request_id,
                sample_index=0,
                finish_reason=FinishReason.ERROR,
                error=error,
                num_prompt_tokens=len(request.prompt_token_ids),
            )
        sequences = [self._sequence(request, index) for index in range(request.params.n)]
        self._live[request.request_id] = sequences
        for sequence in sequences:
            self._scheduler.add(sequence)
        return None

    def abort(self, request_id: str) -> None:
        """Take a request back. Its blocks are free at once; the next step tells of its end."""
        for sequence in list(self._live.get(request_id, ())):
            self._scheduler.remove(sequence)
            self._report(sequence, Ending(FinishReason.ABORT))

    def _sequence(self, request: Request, sample_index: int) -> Sequence:
        return Sequence(
            request,
            sample_index,
            detokenizer=Detokenizer(self.tokenizer, request.params.stop),
            arrival=next(self._arrivals),
            context_window=self.context_window,
            eos_token_ids=self._eos_token_ids,
            engine_seed=self.config.seed,
            model=self.config.model_name,
        )

    def _refusal(self, request: Request) -> RequestError | None:
        prompt = request.prompt_token_ids
        if not prompt:
            return _invalid_prompt("prompt must hold at least one token, got none")
        vocab_size = self.runner.architecture.vocab_size
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            strange = next(i for i in prompt if not 0 <= i < vocab_size)
            return _invalid_prompt(f"prompt token ids must be 0 to {vocab_size - 1}, got {strange}")
        if len(prompt) < self.context_window:
            return None
        limit = "context window"
        if self.context_window < self.runner.architecture.max_position_embeddings:
            limit = "max_model_len or key-value cache"
        return _invalid_prompt(
            f"prompt has {len(prompt)} tokens; with one token of output, this engine's {limit} "
            f"allows at most {self.context_window - 1}",
            code="context_length_exceeded",
        )

    # -- the step -----------------------------------------------------------------------------

    def step(self) -> list[StepOutput]:
        """Advance the requests by one step and return what became of them."""
        if plan := self._scheduler.schedule():
            logits, sequences = self._run(plan)
            sampled = sample(logits, sequences)
            self._update(plan, sequences, sampled)
        return self._collect()

    def _run(self, plan: dict[Sequence, int]) -> tuple[torch.Tensor, list[Sequence]]:
        """Compute the planned tokens; return logits and the sequences they belong to."""
        try:
            return self._execute(plan)
        except torch.AcceleratorError:  # the device is lost, and with it every row
            raise
        except Exception as fault:
            return self._run_one_by_one(plan, fault)

    def _execute(self, plan: dict[Sequence, int]) -> tuple[torch.Tensor, list[Sequence]]:
        rows: list[ScheduledRow] = []
        caught_up: list[Sequence] = []
        for sequence, num_tokens in plan.items():
            begin = sequence.num_computed
            end = begin + num_tokens
            is_last = end == len(sequence.token_ids)
            if is_last:
                caught_up.append(sequence)
            tokens = sequence.token_ids[begin:end]
            rows.append(ScheduledRow(tokens, begin, sequence.block_table, is_last))
        batch = build_step_batch(rows, self._pool.block_size, self.runner.device)
        return self.runner.execute(batch), caught_up

    def _run_one_by_one(
        self, plan: dict[Sequence, int], fault: Exception
    ) -> tuple[torch.Tensor, list[Sequence]]:
        """Repeat a failed step row by row, so that only the rows at fault end.

        Raises:
            Exception: the original one, if the model cannot even do what is no row's fault.
        """
        parts: list[torch.Tensor] = []
        caught_up: list[Sequence] = []
        for sequence, num_tokens in list(plan.items()):
            try:
                logits, sequences = self._execute({sequence: num_tokens})
            except torch.AcceleratorError:
                raise
            except Exception as error:
                del plan[sequence]
                self._fail(sequence, f"the model failed on this row: {_shown(error)}")
            else:
                parts.append(logits)
                caught_up += sequences
        if not plan and not self._is_model_alive():
            raise fault
        vocab_size = self.runner.architecture.vocab_size
        return torch.cat(parts) if parts else torch.empty(0, vocab_size), caught_up

    def _is_model_alive(self) -> bool:
        """Whether the model can compute a single token of no row at all."""
        blocks = self._pool.allocate(1)
        if blocks is None:
            return False
        try:
            row = ScheduledRow((0,), 0, blocks)
            self.runner.execute(build_step_batch([row], self._pool.block_size, self.runner.device))
        except Exception:
            return False
        finally:
            self._pool.free(blocks)
        return True

    def _update(
        self, plan: dict[Sequence, int], sequences: list[Sequence], sampled: SampledTokens
    ) -> None:
        """Record the step: blocks first, so that those of faulty rows are never shared."""
        for row in sampled.faulty:
            del plan[sequences[row]]
            self._scheduler.distrust(sequences[row])
            self._fail(sequences[row], "the model's logits are not finite numbers")
        self._scheduler.update(plan)
        self._counters.steps += 1
        self._counters.generated_tokens += len(sequences) - len(sampled.faulty)
        for row, (sequence, token_id) in enumerate(zip(sequences, sampled.token_ids, strict=True)):
            if row in sampled.faulty:
                continue
            sequence.token_ids.append(token_id)
            if sequence.logprobs is not None:
                sequence.logprobs.append(sampled.logprobs[row])
            if (
                sequence.is_watched
                or token_id in sequence.stop_token_ids
                or len(sequence.token_ids) >= sequence.max_num_tokens
            ):
                self._advance(sequence)

    def _collect(self) -> list[StepOutput]:
        outputs, self._outputs = self._outputs, []
        return outputs

    # -- one row ------------------------------------------------------------------------------

    def _advance(self, sequence: Sequence) -> None:
        """End a sequence whose newest token was its last; else tell of it when that is due."""
        try:
            ending = sequence.find_ending()
        except Exception as error:  # a tokenizer's, and this row's alone
            message = f"the output cannot be turned into text: {_shown(error)}"
            self._fail(sequence, message, retryable=False)
            return
        if ending is not None:
            self._scheduler.finish(sequence)
            self._report(sequence, ending)
        elif sequence.is_report_due:
            self._report(sequence)

    def _fail(self, sequence: Sequence, message: str, *, retryable: bool = True) -> None:
        self._counters.errors += 1
        self._scheduler.remove(sequence)
        error = RequestError(code="engine_error", message=message, retryable=retryable)
        self._report(sequence, Ending(FinishReason.ERROR, error=error))

    def _report(self, sequence: Sequence, ending: Ending | None = None) -> None:
        """Put down what a sequence has gained since its last output; its end, if it has ended."""
        self._outputs.append(sequence.take_output(ending))
        if ending is not None:
            request_id = sequence.request.request_id
            samples = self._live[request_id]
            samples.remove(sequence)
            if not samples:
                del self._live[request_id]

    # -- looking in ---------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Return the engine's figures as of now."""
        return EngineStats(
            steps=self._counters.steps,
            running=self.num_running,
            waiting=self.num_waiting,
            kv_used_fraction=self._pool.used_fraction,
            prompt_tokens=self._scheduler.num_prompt_tokens,
            cached_tokens=self._scheduler.num_cached_tokens,
            generated_tokens=self._counters.generated_tokens,
            preemptions=self._scheduler.num_preemptions,
            errors=self._counters.errors,
        )

    def check(self) -> None:
        """Verify that every block is accounted for, between any two steps.

        Raises:
            RuntimeError: the books do not balance.
        """
        self._scheduler.check()
        num_live = sum(map(len, self._live.values()))
        if num_live != self.num_running + self.num_waiting:
            raise RuntimeError(
                f"{num_live} samples live, {self.num_running} run and {self.num_waiting} wait"
            )


def _invalid_prompt(message: str, code: str = "invalid_request") -> RequestError:
    return RequestError(code=code, message=message, param="prompt", stage="validate")


def _shown(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 300 else text[:297] + "..."
