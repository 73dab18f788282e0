"""Work that is captured once and replayed: on a GPU as a CUDA graph, on a CPU by its twin.

Knows how many rows a captured step has room for, and where a replay reads and writes: always at
the addresses of the capture. Refuses to know what the work is.

    rows of the step    1  2  3  4  5 ..  8  9 .. 16  17 .. 24   ...  257 .. 272   ...  1024
    captured for        1  2  4  4  8 ..  8 16 .. 16  24 .. 24   ...  272 .. 272   ...  1024

Launching a decode step of 28 layers by itself is some 340 launches, 2 to 7 ms of the host's time;
replaying it is one, of an estimated 10 microseconds. Padding costs what it adds to matrix products
that wait for weights anyway, next to nothing: at most an eighth of the rows from 64 on.
"""

import gc
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

LADDER = (1, 2, 4, 8, *range(16, 257, 8), *range(272, 513, 16), *range(544, 1025, 32))

Tensors = tuple[torch.Tensor, ...]
Work = Callable[[], Tensors]


def captured_rows(num_rows: int) -> int | None:
    """Return for how many rows the step of `num_rows` is captured; None for too many."""
    place = bisect_left(LADDER, num_rows)
    return LADDER[place] if place < len(LADDER) else None


def num_rungs(max_rows: int) -> int:
    """Return how many numbers of rows are captured if no step has more than `max_rows`."""
    return bisect_right(LADDER, max_rows)


def captured_width(num_blocks: int, max_blocks: int, *, at_least: int = 64) -> int:
    """Return how many columns of the block tables a step reads: a power of two, or all.

    The tables are copied in each step, and attention has room for a part of every split that so
    many blocks have: 0.3 GB for 256 rows of 16 heads and 40,000 tokens, an eighth of it for 5,000.
    """
    return min(max(at_least, 1 << (num_blocks - 1).bit_length()), max_blocks)


class Replay(Protocol):
    """Captured work.

    Attributes:
        outputs: what every replay overwrites.
    """

    outputs: Tensors

    def __call__(self) -> None:
        """Start it once more."""
        ...


class CaptureFailed(RuntimeError):
    """Work cannot be captured here. The device is well, and can be given the work itself."""


class Capture(Protocol):
    """Makes replays."""

    def __call__(self, work: Work) -> Replay:
        """Capture `work`, which is done at least once: it must do no harm, see `DeviceSteps`.

        Raises:
            CaptureFailed: it does what cannot be captured, or there is no memory for it.
        """
        ...


class CudaGraphs:
    """Captures CUDA graphs, which share the memory of what they make on the way.

    One stream for all: cuBLAS keeps some 32 MiB for each stream that it has ever worked on.
    """

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, work: Work) -> Replay:
        """See `Capture`. The work is done once before, so that kernels are compiled and loaded.

        A capture that fails may leave its own stream as the thread's, where what follows would not
        wait for what other threads start; so the thread is put back.
        """
        before = torch.cuda.current_stream()
        try:
            return self._captured(work, before)
        except RuntimeError as error:
            if isinstance(error, torch.AcceleratorError) and not _is_harmless(error):
                raise
            raise CaptureFailed(f"the step cannot be captured: {error}") from error
        finally:
            torch.cuda.set_stream(before)

    def _captured(self, work: Work, before: torch.cuda.Stream) -> Replay:
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            work()
        before.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Another thread may wait for an event of the step before.
        with (
            _uncollected(),
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            outputs = work()
        return _CudaReplay(graph, outputs)


def _is_harmless(error: torch.AcceleratorError) -> bool:
    """Whether the device is well: something is forbidden in captures, or memory is at its end.

    Each of CUDA's words for the former has "captur".
    """
    return "captur" in str(error) or "out of memory" in str(error)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let nothing be collected: a graph that is, while another is captured, would end the capture.

    To collect before each capture would cost a tenth of a second and more, for all the objects that
    a process with a model and its libraries has.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _CudaReplay:
    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: Tensors) -> None:
        self._graph = graph
        self.outputs = outputs

    def __call__(self) -> None:
        """See `Replay`."""
        self._graph.replay()


class RecordedWork:
    """The twin without a GPU: keeps the work, and does it again into the same outputs."""

    def __call__(self, work: Work) -> Replay:
        """See `Capture`."""
        return _RecordedReplay(work, work())


def capture_on(device: torch.device) -> Capture:
    """Return what captures on a device."""
    return CudaGraphs(device) if device.type == "cuda" else RecordedWork()


class _RecordedReplay:
    def __init__(self, work: Work, outputs: Tensors) -> None:
        self._work = work
        self.outputs = tuple(output.clone() for output in outputs)

    def __call__(self) -> None:
        """See `Replay`."""
        for output, found in zip(self.outputs, self._work(), strict=True):
            output.copy_(found)
