"""Work that is captured once and replayed: on a GPU as a CUDA graph, on a CPU by its twin.

Knows how many rows a captured step has room for, and where a replay reads and writes: always at
the addresses of the capture. Refuses to know what the work is.

    rows of the step    1  2  3  4  5 ..  8  9 .. 16  17 .. 24   ...  257 .. 272   ...  1024
    captured for        1  2  4  4  8 ..  8 16 .. 16  24 .. 24   ...  272 .. 272   ...  1024

Launching a decode step of 28 layers by itself is some 340 launches, 2 to 7 ms of the host's time;
replaying it is one, of some 10 microseconds. Padding costs what it adds to matrix products that
wait for weights anyway, next to nothing: at most an eighth of the rows from 64 on.
"""

import gc
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

LADDER = (1, 2, 4, 8, *range(16, 257, 8), *range(272, 513, 16), *range(544, 1025, 32))
_PATIENCE_STEPS = 32

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


class Captured:
    """The replays there are, by the kind of their step and the rows they have room for.

    A capture costs two steps launched by hand and some ten milliseconds, and where a job ends the
    number of rows passes every rung of the ladder. So a replay with room for up to twice the rows
    will do until its own number has come up often enough.
    """

    def __init__(self) -> None:
        self._replays: dict[tuple[Hashable, int], Replay] = {}
        self._num_asked = Counter[tuple[Hashable, int]]()
        self._kinds: set[Hashable] = set()

    def find(self, kind: Hashable, num_rows: int) -> tuple[int, Replay] | None:
        """Return a replay and its rows; None if one should be captured for `num_rows`."""
        key = kind, num_rows
        if key not in self._replays:
            self._num_asked[key] += 1
            if self._num_asked[key] > _PATIENCE_STEPS:
                return None
        place = bisect_left(LADDER, num_rows)
        for rows in LADDER[place : bisect_right(LADDER, 2 * num_rows)]:
            replay = self._replays.get((kind, rows))
            if replay is not None:
                return rows, replay
        return None

    def keep(self, kind: Hashable, num_rows: int, replay: Replay) -> None:
        """Add a replay."""
        self._kinds.add(kind)
        self._replays[kind, num_rows] = replay

    def has(self, kind: Hashable) -> bool:
        """Whether there is any replay of a kind."""
        return kind in self._kinds


class CaptureFailed(RuntimeError):
    """Work cannot be captured here. The device is well, and can be given the work itself."""


class Capture(Protocol):
    """Makes replays."""

    def __call__(self, work: Work) -> Replay:
        """Capture `work`, which is done at least once: it must do no harm, see `DeviceSteps`.

        Raises:
            CaptureFailed: it does what cannot be captured.
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
        """See `Capture`. The work is done once before, so that kernels are compiled and loaded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            work()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Another thread may wait for an event of the step before.
            with (
                _uncollected(),
                torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self._stream,
                    capture_error_mode="thread_local",
                ),
            ):
                outputs = work()
        except torch.AcceleratorError as error:
            if "captur" not in str(error):  # which each of CUDA's words for such an error has
                raise
            raise CaptureFailed(f"the step cannot be captured: {error}") from error
        return _CudaReplay(graph, outputs)


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
