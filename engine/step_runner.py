"""One step of the model, with walls between its rows. Knows the runner and the sampler, and which
rows a step names; not why the scheduler chose them.

A step that makes the model fail is repeated row by row (writing the same keys and values again does
no harm), and one that makes the sampler fail is sampled row by row, so that a row fails alone. One
that lacks memory is computed in smaller passes.
"""

import time
from collections.abc import Iterator, Sequence as Rows
from math import isnan
from traceback import clear_frames
from typing import Protocol

import numpy as np
import torch

from .batch import ScheduledRow, StepBatch, build_step_batch, next_step_batch
from .foreign_architecture import Architecture
from .logprobs import token_logprobs
from .outputs import RequestError, TokenLogprobs
from .pass_size import PassSize, is_out_of_memory
from .pooling import PooledPart
from .prefix_forest import PrefixForest
from .sampler import NOT_FINITE, sample
from .sequence import Sequence
from .step import NOT_DRAWN, Step, StepPart, StepResult, within

_MAX_TURN_S = 0.03  # in which repeats may begin: so long an arrival or an abort waits at most


class Runner(Protocol):
    """What is asked of a model; `ModelRunner` says what the attributes mean."""

    device: torch.device
    num_blocks: int
    block_size: int
    max_model_len: int
    prefix_forest: PrefixForest | None

    @property
    def architecture(self) -> Architecture:
        """What the model is."""
        ...

    @property
    def is_capturable(self) -> bool:
        """Whether a step of single tokens reads nothing back, so that it can be captured."""
        ...

    def execute(self, batch: StepBatch) -> torch.Tensor:
        """Run one step and return float32 logits [L, vocab]."""
        ...

    def embed(self, batch: StepBatch) -> torch.Tensor:
        """Run one step and return float32 hidden states [L, hidden]."""
        ...


class StepRunner:
    """Computes what steps ask for, one after the other, and samples."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._pass_size = PassSize()

    @property
    def num_memory_errors(self) -> int:
        """Times that memory did not suffice for a pass."""
        return self._pass_size.num_errors

    def run(self, step: Step) -> list[StepResult]:
        """Compute a step and draw the next tokens, a result for each time that it was repeated.

        None of its parts may be pending.

        Raises:
            Exception: the model is beyond use, whatever the rows.
        """
        result = self._run(step.parts)
        results = [result]
        if step.num_repeats > 1 and self.fits_one_pass(step.parts) and not result.faults:
            results += self._repeat(step, result)
        return results

    def fits_one_pass(self, parts: Rows[StepPart]) -> bool:
        """Whether there are parts, and memory for all of them at once, as far as is known."""
        limit = self._pass_size.limit
        return bool(parts) and (limit is None or _num_tokens(parts) <= limit)

    def _run(self, parts: Rows[StepPart]) -> StepResult:
        result = StepResult()
        try:
            for alike in _by_output(parts):
                for fitting in within(alike, self._pass_size.limit):
                    result.extend(self._pass(fitting))
        except torch.AcceleratorError:  # the device is lost, and with it every row
            raise
        except Exception as error:
            fault = error
        else:
            return result
        clear_frames(fault.__traceback__)  # they hold what the failed pass has made
        return self._run_one_by_one(parts, fault)

    def _pass(self, parts: Rows[StepPart]) -> StepResult:
        """Compute the parts at once, or in halves where memory is short."""
        result = self._attempt(parts)
        if result is None:  # the error is gone by now, and with it all that its frames held
            num_tokens = _num_tokens(parts)
            self._pass_size.halve(num_tokens)
            result = StepResult()
            for half in within(parts, -(-num_tokens // 2)):
                result.extend(self._pass(half))
        return result

    def _attempt(self, parts: Rows[StepPart]) -> StepResult | None:
        """Compute the parts at once; None where memory is short and halves are left to try."""
        try:
            outputs = self._outputs(parts)
            pools = parts[0].sequence.pooler is not None
            result = self._pool(parts, outputs) if pools else self._take(parts, outputs)
        except Exception as error:
            if not is_out_of_memory(error) or _num_tokens(parts) == 1:
                raise
            return None
        self._pass_size.recover()
        return result

    def _outputs(self, parts: Rows[StepPart]) -> torch.Tensor:
        """Return logits, scores or hidden states: what the parts, all of a kind, ask for."""
        batch = self._batch([part.row for part in parts])
        pooler = parts[0].sequence.pooler
        if pooler is not None and pooler.wants_hidden:
            return self._runner.embed(batch)
        return self._runner.execute(batch)

    def _pool(self, parts: Rows[StepPart], outputs: torch.Tensor) -> StepResult:
        """Sum up what counts of each prompt."""
        result = StepResult()
        end = 0
        for part in parts:
            begin, end = end, end + part.row.num_logits
            total = outputs[begin : begin + len(part.due)].double().sum(0).cpu().numpy()
            if not np.isfinite(total).all():
                result.faults[part.sequence] = NOT_FINITE
                continue
            if part.due:
                result.pooled[part.sequence] = [PooledPart(part.due, total)]
            if part.place != NOT_DRAWN:
                result.sequences.append(part.sequence)
                result.token_ids.append(0)
        return result

    def _take(self, parts: Rows[StepPart], logits: torch.Tensor) -> StepResult:
        """Sample where a row has caught up, and read what the other logits tell of its prompt."""
        prompt_logprobs: dict[Sequence, list[TokenLogprobs]] = {}
        drawing: list[StepPart] = []
        last_rows: list[int] = []
        end = 0
        for part in parts:
            begin, end = end, end + part.row.num_logits
            sequence, due = part.sequence, part.due
            if due:
                told = sequence.token_ids[due.start + 1 : due.stop + 1]
                num_top = [sequence.request.params.prompt_logprobs or 0] * len(due)
                records = token_logprobs(logits[begin : begin + len(due)], told, num_top)
                prompt_logprobs[sequence] = records
            if part.place != NOT_DRAWN:
                drawing.append(part)
                last_rows.append(end - 1)
        result = self._sample(
            [part.sequence for part in drawing],
            [part.place for part in drawing],
            logits if len(last_rows) == len(logits) else logits[last_rows],
        )
        for sequence, records in prompt_logprobs.items():
            if any(isnan(record.logprob) for record in records):
                result.fail(sequence, NOT_FINITE)
            else:
                result.prompt_logprobs[sequence] = records
        return result

    def _sample(
        self, sequences: list[Sequence], places: list[int], logits: torch.Tensor
    ) -> StepResult:
        if not sequences:
            return StepResult()
        try:
            sampled = sample(logits, sequences, places)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            if len(sequences) == 1:
                return StepResult(faults={sequences[0]: _fault(error, "sampler")})
            result = StepResult()
            for row, (sequence, place) in enumerate(zip(sequences, places, strict=True)):
                result.extend(self._sample([sequence], [place], logits[row : row + 1]))
            return result
        if not sampled.faults:
            logprobs = {sequences[row]: record for row, record in sampled.logprobs.items()}
            return StepResult(sequences, sampled.token_ids, logprobs)
        result = StepResult()
        for row, (sequence, token_id) in enumerate(zip(sequences, sampled.token_ids, strict=True)):
            if row in sampled.faults:
                result.faults[sequence] = sampled.faults[row]
                continue
            result.sequences.append(sequence)
            result.token_ids.append(token_id)
            if row in sampled.logprobs:
                result.logprobs[sequence] = sampled.logprobs[row]
        return result

    # -- again and again ----------------------------------------------------------------------

    def _repeat(self, step: Step, result: StepResult) -> Iterator[StepResult]:
        """Draw more tokens of the same rows, each until it ends, as long as a turn may take.

        What goes wrong on the way is left to the next step, which looks after it.
        """
        deadline_s = time.monotonic() + _MAX_TURN_S
        rows = [part.row for part in step.parts]
        places = [part.place for part in step.parts]
        batch: StepBatch | None = None
        for num_left in range(step.num_repeats - 1, 0, -1):
            drawn = zip(result.sequences, result.token_ids, places, strict=True)
            kept = [row for row, end in enumerate(drawn) if not end[0].ends_with(end[1], end[2])]
            is_over = not kept or (step.stops_at_ending and len(kept) < len(places))
            if is_over or time.monotonic() > deadline_s:
                return
            if batch is None:
                batch = self._batch(
                    [_next_row(rows[row], result.token_ids[row]) for row in kept], num_left - 1
                )
            else:
                batch = next_step_batch(batch, result.token_ids, kept, self._runner.block_size)
            places = [places[row] + 1 for row in kept]
            sequences = [result.sequences[row] for row in kept]
            try:
                logits = self._runner.execute(batch)
            except torch.AcceleratorError:
                raise
            except Exception:  # the next turn takes the step once more, and tells whose fault it is
                return
            result = self._sample(sequences, places, logits)
            yield result
            if result.faults:
                return

    # -- row by row ---------------------------------------------------------------------------

    def _run_one_by_one(self, parts: Rows[StepPart], fault: Exception) -> StepResult:
        result = StepResult()
        for part in parts:
            try:
                result.extend(self._pass([part]))
            except torch.AcceleratorError:
                raise
            except Exception as error:
                result.faults[part.sequence] = _fault(error, "model")
        if len(result.faults) == len(parts) and not self._is_model_alive(parts[-1]):
            raise fault
        return result

    def _is_model_alive(self, part: StepPart) -> bool:
        """Whether the model can compute one token of no row at all, in a failed row's last block.

        That block is the row's own: nobody shares one that is still being filled.
        """
        last_block = (part.end - 1) // self._runner.block_size
        try:
            self._execute([ScheduledRow((0,), 0, [part.row.block_table[last_block]])])
        except Exception:  # of whatever kind: no row was asked for, so no row is to blame
            return False
        return True

    def _execute(self, rows: list[ScheduledRow]) -> torch.Tensor:
        return self._runner.execute(self._batch(rows))

    def _batch(self, rows: list[ScheduledRow], num_more: int = 0) -> StepBatch:
        runner = self._runner
        forest = runner.prefix_forest
        return build_step_batch(
            rows,
            runner.block_size,
            runner.device,
            num_more=num_more,
            groups=forest.groups(rows, runner.device) if forest else None,
        )


def _by_output(parts: Rows[StepPart]) -> list[Rows[StepPart]]:
    """Return the parts in groups that ask the model for the same kind of output."""
    if all(part.sequence.pooler is None for part in parts):
        return [parts] if parts else []
    groups: dict[bool | None, list[StepPart]] = {}
    for part in parts:
        pooler = part.sequence.pooler
        groups.setdefault(pooler and pooler.wants_hidden, []).append(part)
    return list(groups.values())


def _num_tokens(parts: Rows[StepPart]) -> int:
    return sum(len(part.row.token_ids) for part in parts)


def _next_row(row: ScheduledRow, token_id: int) -> ScheduledRow:
    return ScheduledRow((token_id,), row.position + 1, row.block_table)


def _fault(error: Exception, stage: str) -> RequestError:
    """Describe what a row raised in the model or the sampler.

    PyTorch raises RuntimeError for want of memory as for much else, but what depends on a row's
    contents alone, such as IndexError and ValueError, will be no different next time.
    """
    message = f"the {stage} failed on this row: {type(error).__name__}: {error}"
    is_retryable = isinstance(error, RuntimeError | MemoryError | OSError)
    return RequestError(code="engine_error", message=message[:300], retryable=is_retryable)
