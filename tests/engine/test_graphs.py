"""Captured steps: enough room for every number of rows, and replays that read inputs alone."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from penstock.engine.graphs import (
    LADDER,
    Capture,
    CaptureFailed,
    CudaGraphs,
    RecordedWork,
    captured_rows,
    captured_width,
)

from .tape import HostRead, NoHostReads, TapeCapture


def test_the_ladder() -> None:
    asked = (1, 2, 3, 5, 9, 16, 17, 256, 257, 512, 513, 1024)
    assert [captured_rows(rows) for rows in asked] == [
        *(1, 2, 4, 8, 16, 16, 24, 256, 272, 512, 544, 1024)
    ]
    assert captured_rows(1025) is None
    assert len(LADDER) == 67
    for rows in range(65, 1025):
        padded = captured_rows(rows)
        assert padded is not None
        assert rows <= padded <= rows * 9 / 8


def test_widths_cover_the_longest_row_and_are_few() -> None:
    widths = [captured_width(blocks, 2500) for blocks in range(1, 2501)]
    assert all(width >= blocks for blocks, width in enumerate(widths, start=1))
    assert sorted({*widths}) == [64, 128, 256, 512, 1024, 2048, 2500]
    assert captured_width(3, 40) == 40


@pytest.mark.parametrize("make", [RecordedWork, TapeCapture])
def test_a_replay_reads_its_inputs_and_overwrites_its_outputs(make: Callable[[], Capture]) -> None:
    numbers, total = torch.arange(4), torch.zeros(4, dtype=torch.int64)

    def work() -> tuple[torch.Tensor, ...]:
        doubled = numbers * 2
        total.add_(doubled)
        return doubled + 1, doubled.float()

    replay = make()(work)
    odd, floats = replay.outputs
    total.zero_()
    for step in range(3):
        numbers.copy_(torch.arange(4) + step)
        odd.fill_(-7)
        replay()
        assert torch.equal(odd, 2 * (torch.arange(4) + step) + 1)
        assert floats.tolist() == (2.0 * (torch.arange(4) + step)).tolist()
    assert torch.equal(total, 6 * torch.arange(4) + 6), "once for each replay"


def test_the_double_finds_what_a_graph_would_not_see() -> None:
    """A tensor that is replaced after the capture is the trap that it is for."""
    inputs = {"numbers": torch.zeros(2)}
    replay = TapeCapture()(lambda: (inputs["numbers"] + 1,))
    inputs["numbers"] = torch.ones(2)
    replay()
    assert replay.outputs[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "read",
    [
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        torch.Tensor.nonzero,
        lambda tensor: int(tensor[0]),
        lambda tensor: bool(tensor[0] > 0),
        lambda tensor: tensor[tensor > 0],
    ],
    ids=["tolist", "numpy", "nonzero", "int", "bool", "mask"],
)
def test_the_guard_finds_what_waits_for_a_device(read: Callable[[torch.Tensor], object]) -> None:
    numbers = torch.arange(3)
    with torch.inference_mode(), NoHostReads(), pytest.raises(HostRead):
        read(numbers)


class FakeCuda:
    """What a capture calls of `torch.cuda`, and in which order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: Exception | None = None
        self.CUDAGraph = Mock
        self.graph_pool_handle = lambda: "pool"
        self.used: object = Mock(wait_stream=lambda other: self.events.append("wait"))
        self.current_stream = lambda: self.used

    def Stream(self, name: object) -> Any:
        if isinstance(name, torch.device):
            self.events.append("make a stream")
        return Mock(wait_stream=lambda other: self.events.append("wait"))

    def set_stream(self, stream: object) -> None:
        self.used = stream

    @contextmanager
    def stream(self, _: Any) -> Iterator[None]:
        self.events.append("warm up")
        yield

    @contextmanager
    def graph(self, _: Any, **options: Any) -> Iterator[None]:
        assert options.keys() == {"pool", "stream", "capture_error_mode"}
        self.events.append("capture")
        before, self.used = self.used, options["stream"]
        yield
        if self.error is not None:  # as the real one, which does not come to what follows then
            raise self.error
        self.used = before


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    streams = ("current_stream", "set_stream", "Stream", "stream")
    for name in ("CUDAGraph", "graph_pool_handle", "graph", *streams):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    return fake


def test_work_is_done_once_before_each_capture_on_one_stream(cuda: FakeCuda) -> None:
    """As cuBLAS keeps memory for each stream, and kernels are loaded at their first launch."""
    collects: list[bool] = []

    def work() -> tuple[torch.Tensor, ...]:
        cuda.events.append("work")
        collects.append(gc.isenabled())
        return ()

    capture = CudaGraphs(torch.device("cuda"))
    capture(work)
    capture(work)
    each = ["wait", "warm up", "work", "wait", "capture", "work"]
    assert cuda.events == ["make a stream", *each, *each]
    assert collects == [True, False] * 2, "a graph that is collected would end the capture"
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (torch.AcceleratorError("operation not permitted when stream is capturing"), CaptureFailed),
        (torch.AcceleratorError("CUDA error: out of memory"), CaptureFailed),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), CaptureFailed),
        (RuntimeError("cannot ask for the seed"), CaptureFailed),
        (torch.AcceleratorError("an illegal memory access"), torch.AcceleratorError),
        (ValueError("our own"), ValueError),
    ],
    ids=["capture", "driver memory", "memory", "generator", "device", "ours"],
)
def test_only_what_cannot_be_captured_is_launched_instead(
    cuda: FakeCuda, error: Exception, raised: type[Exception]
) -> None:
    before, cuda.error = cuda.used, error
    with pytest.raises(raised):
        CudaGraphs(torch.device("cuda"))(lambda: ())
    assert gc.isenabled()
    assert cuda.used is before, "not the stream of captures, for which nobody else waits"
