"""One step of the model, with walls between its rows. Knows the runner and the sampler, and which
rows a plan names; not why the scheduler chose them.

A step that makes the model fail is repeated row by row (writing the same keys and values again does
no harm), and one that makes the sampler fail is sampled row by row, so that a row fails alone.
"""

from dataclasses import dataclass, field
from typing import Protocol, Self

import torch

from .architecture import ModelArchitecture
from .batch import ScheduledRow, StepBatch, build_step_batch
from .block_pool import BlockPool
from .outputs import TokenLogprobs
from .sampler import sample
from .sequence import Sequence


class Runner(Protocol):
    """What is asked of a model; `ModelRunner` says what the attributes mean."""

    architecture: ModelArchitecture
    device: torch.device
    num_blocks: int
    block_size: int
    max_model_len: int

    def execute(self, batch: StepBatch) -> torch.Tensor:
        """Run one step and return float32 logits [L, vocab]."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row failed; `is_retryable` says whether it might not, another time."""

    message: str
    is_retryable: bool = True

    @classmethod
    def of(cls, error: Exception, stage: str) -> Self:
        """Describe what a row raised in the model or the sampler.

        PyTorch raises RuntimeError for want of memory as for much else, but what depends on a
        row's contents alone, such as IndexError and ValueError, will be no different next time.
        """
        message = f"the {stage} failed on this row: {type(error).__name__}: {error}"
        return cls(message[:300], isinstance(error, RuntimeError | MemoryError | OSError))


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step brought.

    Attributes:
        sequences: those that had caught up, each with its next token in `token_ids`.
        logprobs: for those that asked for them.
        faults: why a sequence failed; it is not among `sequences`.
    """

    sequences: list[Sequence] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: dict[Sequence, TokenLogprobs] = field(default_factory=dict)
    faults: dict[Sequence, Fault] = field(default_factory=dict)

    def extend(self, other: "StepResult") -> None:
        """Add what another part of the same step brought."""
        self.sequences.extend(other.sequences)
        self.token_ids.extend(other.token_ids)
        self.logprobs.update(other.logprobs)
        self.faults.update(other.faults)


class StepRunner:
    """Computes what a plan asks for, and samples."""

    def __init__(self, runner: Runner, pool: BlockPool) -> None:
        self._runner = runner
        self._pool = pool

    def run(self, plan: dict[Sequence, int]) -> StepResult:
        """Compute the planned number of tokens of each sequence, and draw the next ones.

        Raises:
            Exception: the model is beyond use, whatever the rows.
        """
        try:
            caught_up, logits = self._compute(plan)
        except torch.AcceleratorError:  # the device is lost, and with it every row
            raise
        except Exception as fault:
            return self._run_one_by_one(plan, fault)
        return self._sample(caught_up, logits)

    def _compute(self, plan: dict[Sequence, int]) -> tuple[list[Sequence], torch.Tensor]:
        """Return the sequences that have caught up, and their logits."""
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
        return caught_up, self._execute(rows)

    def _sample(self, sequences: list[Sequence], logits: torch.Tensor) -> StepResult:
        try:
            sampled = sample(logits, sequences)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            if len(sequences) == 1:
                return StepResult(faults={sequences[0]: Fault.of(error, "sampler")})
            result = StepResult()
            for row, sequence in enumerate(sequences):
                result.extend(self._sample([sequence], logits[row : row + 1]))
            return result
        if not sampled.faulty:
            logprobs = {sequences[row]: record for row, record in sampled.logprobs.items()}
            return StepResult(sequences, sampled.token_ids, logprobs)
        result = StepResult()
        for row, (sequence, token_id) in enumerate(zip(sequences, sampled.token_ids, strict=True)):
            if row in sampled.faulty:
                # A damaged block that it shared may be to blame, and is not shared again.
                result.faults[sequence] = Fault("the model's logits are not finite numbers")
                continue
            result.sequences.append(sequence)
            result.token_ids.append(token_id)
            if row in sampled.logprobs:
                result.logprobs[sequence] = sampled.logprobs[row]
        return result

    def _run_one_by_one(self, plan: dict[Sequence, int], fault: Exception) -> StepResult:
        result = StepResult()
        num_failed = 0
        for sequence, num_tokens in plan.items():
            try:
                caught_up, logits = self._compute({sequence: num_tokens})
            except torch.AcceleratorError:
                raise
            except Exception as error:
                num_failed += 1
                result.faults[sequence] = Fault.of(error, "model")
            else:
                result.extend(self._sample(caught_up, logits))
        if num_failed == len(plan) and not self._is_model_alive():
            raise fault
        return result

    def _is_model_alive(self) -> bool:
        """Whether the model can compute one token of no row at all; if there is room to try."""
        blocks = self._pool.allocate(1)
        if blocks is None:
            return True
        try:
            self._execute([ScheduledRow((0,), 0, blocks)])
        except Exception:
            return False
        finally:
            self._pool.free(blocks)
        return True

    def _execute(self, rows: list[ScheduledRow]) -> torch.Tensor:
        batch = build_step_batch(rows, self._runner.block_size, self._runner.device)
        return self._runner.execute(batch)
