"""Where steps are computed: at once, or beside the scheduler. Knows threads, no sequences."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

from .step import Step, StepResult

RunStep = Callable[[Step], list[StepResult]]


class StepExecutor(Protocol):
    """Computes steps in the order of their launch."""

    def launch(self, step: Step) -> "Future[list[StepResult]]":
        """Return a handle at once, whose `result` waits for the step and raises what it raised."""
        ...


class InlineExecutor:
    """Computes a step before its launch returns."""

    def __init__(self, run: RunStep) -> None:
        self._run = run

    def launch(self, step: Step) -> "Future[list[StepResult]]":
        """See `StepExecutor`."""
        handle: Future[list[StepResult]] = Future()
        try:
            handle.set_result(self._run(step))
        except BaseException as error:  # an interrupt too: whoever lands the step puts it in order
            handle.set_exception(error)
        return handle


class ThreadExecutor:
    """Computes steps in a thread of its own, which lets go of Python while kernels run."""

    def __init__(self, run: RunStep, device: torch.device) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="steps",
            initializer=_choose_device,
            initargs=(_with_index(device),),
        )

    def launch(self, step: Step) -> "Future[list[StepResult]]":
        """See `StepExecutor`."""
        return self._thread.submit(self._run, step)


def _with_index(device: torch.device) -> torch.device:
    """Say which GPU is meant by one without a number: the one that this thread uses."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _choose_device(device: torch.device) -> None:
    """Make a thread use the model's GPU: each one starts with the first."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
