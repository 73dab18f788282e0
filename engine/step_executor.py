"""Where steps are begun: at once, or beside the scheduler. Knows threads, no sequences.

launch(N)  launch(N+1)  result(N): wait until begun, then until finished
           begun as soon as N has been, finished or not
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

from .device_stream import using
from .step import Step, StepResult
from .step_launcher import BegunStep

BeginStep = Callable[[Step], BegunStep]


class StepHandle:
    """A step that has been launched; whoever asks for its result waits for it."""

    def __init__(self, begun: "Future[BegunStep]") -> None:
        self._begun = begun

    def result(self) -> list[StepResult]:
        """Wait for the step and return what it brought, or raise what it raised."""
        return self._begun.result().finish()

    def exception(self) -> BaseException | None:
        """Wait for the step and return what it raised; an interrupt of the wait is raised here."""
        begun = self._begun.exception()
        if begun is not None:
            return begun
        try:
            self.result()
        except Exception as error:
            return error
        return None


class StepExecutor(Protocol):
    """Begins steps in the order of their launch."""

    def launch(self, step: Step) -> StepHandle:
        """Return a handle at once, to wait for the step with."""
        ...


class InlineExecutor:
    """Begins a step before its launch returns."""

    def __init__(self, begin: BeginStep, device: torch.device) -> None:
        self._begin = begin
        self._device = device

    def launch(self, step: Step) -> StepHandle:
        """See `StepExecutor`."""
        begun: Future[BegunStep] = Future()
        try:
            with using(self._device):
                begun.set_result(self._begin(step))
        except BaseException as error:  # an interrupt too: whoever lands the step puts it in order
            begun.set_exception(error)
        return StepHandle(begun)


class ThreadExecutor:
    """Begins steps in a thread of its own, which lets go of Python while kernels run."""

    def __init__(self, begin: BeginStep, device: torch.device) -> None:
        self._begin = begin
        self._thread = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="steps",
            initializer=_choose_device,
            initargs=(_with_index(device),),
        )

    def launch(self, step: Step) -> StepHandle:
        """See `StepExecutor`."""
        return StepHandle(self._thread.submit(self._begin, step))


def _with_index(device: torch.device) -> torch.device:
    """Say which GPU is meant by one without a number: the one that this thread uses."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _choose_device(device: torch.device) -> None:
    """Make a thread use the model's GPU: each one starts with the first."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
