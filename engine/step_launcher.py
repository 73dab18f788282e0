"""Who computes a step: the device by itself, or the host together with it.

Knows the step before, which a step may have to wait for. Refuses to know how either computes.

    begin(N)    -> the device has all it needs, or else the step is done
    begin(N+1)  -> may come before finish(N)
    finish(N)   -> what it drew

A step goes to the device as a whole. Where that cannot serve it, or fails, the host waits for the
step before and computes this one, row by row if need be. A row's tokens are chosen by the same rule
either way. On a GPU in 16 bits a near tie may still fall the other way: libraries choose how they
multiply by the number of rows, padding among them, which depends on what has been captured so far;
and a prefix that is read once for many rows is summed up in another order than by each for itself.
So what a process has done before counts, not this step's rows alone.
"""

from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import Protocol

import torch

from .device_faults import DeviceFaults
from .device_rows import CannotServe
from .device_steps import DeviceSteps
from .sequence import Sequence
from .step import Step, StepPart, StepResult
from .step_runner import StepRunner


class BegunStep(Protocol):
    """A step that is computed, or will be without further ado."""

    def finish(self) -> list[StepResult]:
        """Wait for it and return what it brought, a result for each time it was repeated.

        Raises:
            Exception: the device is lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class DoneStep:
    """A step that is over."""

    results: list[StepResult]

    def finish(self) -> list[StepResult]:
        """See `BegunStep`."""
        return self.results


class StepLauncher:
    """Begins steps in the order in which they are to be computed.

    Attributes:
        num_by_device: steps that the device has begun by itself.
        num_by_host: steps that the host has computed, whatever the reason.
    """

    def __init__(self, steps: StepRunner, on_device: DeviceSteps | None = None) -> None:
        self.num_by_device = self.num_by_host = 0
        self._steps = steps
        self._on_device = on_device
        self._faults = DeviceFaults()
        self._newest: BegunStep = DoneStep([StepResult()])

    @property
    def num_device_errors(self) -> int:
        """Steps that the device could not begin, though it serves such."""
        return self._faults.num_faults

    @property
    def num_capture_errors(self) -> int:
        """Captures that failed, whose steps were launched piece by piece."""
        return 0 if self._on_device is None else self._on_device.num_capture_errors

    def begin(self, step: Step) -> BegunStep:
        """Begin a step, and return once the next one may be begun.

        Raises:
            Exception: the model is beyond use, whatever the rows.
        """
        begun = self._begin_on_device(step)
        if begun is None:
            filled = fill_in(step.parts, self._newest.finish()[-1])
            begun = DoneStep(self._run_by_host(replace(step, parts=filled), step.parts))
            self.num_by_host += bool(filled)
        self._newest = begun
        return begun

    def _run_by_host(self, step: Step, launched: Rows[StepPart]) -> list[StepResult]:
        """Compute a step whose pending tokens have been filled in.

        Penalties that the device would have counted are the host's to count, which may not have
        taken in the newest token yet: for such rows others stand in, that have.
        """
        awaited = {part.sequence for part in launched if part.is_pending}
        stands_for: dict[Sequence, Sequence] = {}
        parts: list[StepPart] = []
        for part in step.parts:
            if part.sequence in awaited and part.sequence.history is not None:
                ahead = part.sequence.with_token(part.row.token_ids[0], part.row.position)
                stands_for[ahead] = part.sequence
                part = part._replace(sequence=ahead)
            parts.append(part)
        results = self._steps.run(replace(step, parts=parts))
        return [result.renamed(stands_for) for result in results] if stands_for else results

    def _begin_on_device(self, step: Step) -> BegunStep | None:
        """Begin a step on the device; None if that cannot be."""
        device = self._on_device
        if device is None or not self._steps.fits_one_pass(step.parts):
            return None
        parts = step.parts
        if isinstance(self._newest, DoneStep):  # the device does not know what that has drawn
            parts = fill_in(parts, self._newest.results[-1])
        if not parts or not device.serves(parts) or not self._faults.may_try():
            return None
        try:
            begun = device.begin(parts)
        except torch.AcceleratorError:  # the device is lost, and with it every row
            raise
        except CannotServe:
            return None
        except Exception as error:  # the host computes it again, and tells whose fault it is
            self._faults.note(error)
            clear_frames(error.__traceback__)  # they hold what the failed step has made
            return None
        self._faults.forgive()
        self.num_by_device += 1
        return begun


def fill_in(parts: Rows[StepPart], newest: StepResult) -> list[StepPart]:
    """Put what the step before has drawn where it was awaited.

    Rows that have ended or failed there are left out: the host will know by then.
    """
    if not any(part.is_pending for part in parts):
        return [*parts]
    filled: list[StepPart] = []
    drawn = dict(zip(newest.sequences, newest.token_ids, strict=True))
    for part in parts:
        if not part.is_pending:
            filled.append(part)
            continue
        token_id = drawn.get(part.sequence)
        if token_id is not None and not part.sequence.ends_with(token_id, part.place - 1):
            row = part.row._replace(token_ids=(token_id,))
            filled.append(part._replace(row=row, is_pending=False))
    return filled
