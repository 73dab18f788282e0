"""A device path that fails is told of, counted and left alone; the host has the same tokens."""

import logging

import pytest
import torch

from penstock.engine import device_steps
from penstock.engine.config import EngineConfig
from penstock.engine.device_faults import DeviceFaults
from penstock.engine.device_rows import CannotServe
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.engine import Engine
from penstock.engine.graphs import CaptureFailed, Replay, Work

from .fake_runner import FakeRunner, greedy_tokens
from .lives import request, run
from .tiny_tokenizers import byte_level


def engine(*, graphs: bool = True) -> Engine:
    config = EngineConfig(
        device="cpu", device_steps=True, cuda_graphs=graphs, max_num_seqs=8, async_steps=False
    )
    return Engine(config, runner=FakeRunner(), tokenizer=byte_level())


class FailingCapture:
    """Raises what it is given, each time."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.num_asked = 0

    def __call__(self, work: Work) -> Replay:
        self.num_asked += 1
        raise self.error


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> FailingCapture:
    made = FailingCapture(RuntimeError("out of resource: shared memory"))
    monkeypatch.setattr(device_steps, "capture_on", lambda _: made)
    return made


def test_a_device_that_always_fails_is_told_of_once_counted_and_left_alone(
    capture: FailingCapture, caplog: pytest.LogCaptureFixture
) -> None:
    target = engine()
    assert run(target, [request("a", (20, 21), 60, ignore_eos=True)])["a"] == greedy_tokens(
        (20, 21), 60, ignore_eos=True
    )
    stats = target.stats()
    assert (stats.errors, stats.steps) == (0, 60)
    assert stats.device_errors == capture.num_asked == 8 + 5, "then after 1, 2, 4, 8 and 16 steps"
    assert (stats.device_steps, stats.host_steps) == (1, 59), "the prompt, which has no capture"
    told = [record for record in caplog.records if "failed on the device" in record.message]
    assert len(told) == 1
    assert told[0].exc_info is not None, "with its traceback"


def test_a_capture_that_fails_is_counted_and_the_device_goes_on(
    capture: FailingCapture, caplog: pytest.LogCaptureFixture
) -> None:
    capture.error = CaptureFailed("no memory for it")
    target = engine()
    run(target, [request("a", (20, 21), 9, ignore_eos=True)])
    stats = target.stats()
    assert (stats.capture_errors, stats.device_errors, stats.host_steps) == (1, 0, 0)
    assert stats.device_steps == 9
    assert "piece by piece" in caplog.text


def test_graphs_go_on_after_a_capture_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine()
    run(target, [request("a", (20, 21), 3, ignore_eos=True)])
    device = target._launcher._on_device
    assert device is not None
    monkeypatch.setattr(device, "_capture", None)
    replays = [*device._captured._replays]
    launched: list[int] = []
    launch = DeviceSteps._launch
    monkeypatch.setattr(
        DeviceSteps, "_launch", lambda self, parts: launched.append(1) or launch(self, parts)
    )
    run(target, [request("b", (20, 21), 9, ignore_eos=True)])
    assert replays
    assert launched == [1], "the prompt"


def test_want_of_room_is_quiet_and_counted_as_the_hosts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: DeviceSteps, parts: object) -> None:
        raise CannotServe("the device has no room for another row")

    monkeypatch.setattr(DeviceSteps, "begin", refuse)
    target = engine()
    run(target, [request("a", (20, 21), 30, ignore_eos=True)])
    stats = target.stats()
    assert (stats.device_errors, stats.device_steps, stats.host_steps) == (0, 0, 30)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_device_that_recovers_is_forgiven_and_one_that_does_not_is_tried_seldom() -> None:
    faults = DeviceFaults()
    for _ in range(7):
        faults.note(RuntimeError("x"))
        assert faults.may_try()
    for _ in range(28):
        faults.forgive()
    for _ in range(7):
        faults.note(torch.OutOfMemoryError("y"))
        assert faults.may_try(), "the count began anew"
    rests: list[int] = []
    for _ in range(28):
        faults.forgive()
    for _ in range(7):
        faults.note(RuntimeError("z"))
    for _ in range(13):
        faults.note(RuntimeError("z"))
        rests.append(0)
        while not faults.may_try():
            rests[-1] += 1
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    assert faults.num_faults == 7 + 7 + 7 + 13


def test_a_device_that_fails_every_other_step_is_left_alone_too() -> None:
    """As where prompts are launched and all that follows them cannot be."""
    faults, num_tried = DeviceFaults(), 0
    for step in range(1000):
        if not faults.may_try():
            continue
        num_tried += 1
        if step % 2:
            faults.note(RuntimeError("x"))
        else:
            faults.forgive()
    assert num_tried < 100
