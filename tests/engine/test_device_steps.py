"""Steps on the device: nothing is read back to start them, and what goes wrong stays its row's."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from penstock.engine import device_sampler, device_steps
from penstock.engine.config import EngineConfig
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.device_stream import Fence, HostStream
from penstock.engine.drawing import GumbelMax
from penstock.engine.engine import Engine
from penstock.engine.graphs import CaptureFailed, Replay, Work
from penstock.engine.outputs import FinishReason, Request, StepOutput
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.step_executor import InlineExecutor
from penstock.engine.step_launcher import StepLauncher
from penstock.engine.step_runner import StepRunner
from penstock.kernels.sampling_ops import reference_ops

from .fake_runner import EOS, NAN, POISON, FakeRunner, greedy_tokens
from .formed_rows import BUDGET_S
from .lives import request, run
from .tape import NoHostReads, TapeCapture
from .tensor_runner import TensorRunner, tensor_tokens
from .tiny_tokenizers import byte_level


class Paths:
    """Counts the steps of the device, and those of the host together with it."""

    def __init__(self) -> None:
        self.on_device = 0
        self.by_host = 0
        self.refused: list[str] = []


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Paths:
    counted = Paths()
    begin, host_run = DeviceSteps.begin, StepRunner.run

    def counting_begin(self: DeviceSteps, parts: Any) -> Any:
        try:
            started = begin(self, parts)
        except BaseException as error:
            counted.refused.append(type(error).__name__)
            raise
        counted.on_device += 1
        return started

    def counting_run(self: StepRunner, step: Any) -> Any:
        counted.by_host += bool(step.parts)
        return host_run(self, step)

    monkeypatch.setattr(DeviceSteps, "begin", counting_begin)
    monkeypatch.setattr(StepRunner, "run", counting_run)
    return counted


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[TapeCapture]:
    """Capture on tapes, and draw as a GPU does, which takes tensors alone."""
    made: list[TapeCapture] = []

    def capture_on(device: torch.device) -> TapeCapture:
        made.append(TapeCapture())
        return made[-1]

    monkeypatch.setattr(device_steps, "capture_on", capture_on)
    monkeypatch.setattr(device_sampler, "draw_on", lambda _: GumbelMax(reference_ops()))
    return made


def engine(runner: Any, *, inline: bool = False, **config: Any) -> Engine:
    """An engine on a device; `inline` begins steps in the launch, though one is in flight."""
    config = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "async_steps": False, **config}
    made = Engine(
        EngineConfig(device="cpu", device_steps=True, grammar_timeout_s=BUDGET_S, **config),
        runner=runner,
        tokenizer=byte_level(),
    )
    executor: Any = made._executor
    if inline:
        made._executor = InlineExecutor(executor._begin, torch.device("cpu"))
    return made


def rows(count: int, **options: Any) -> list[Request]:
    return [
        request(str(i), (*range(20, 24 + 3 * i),), 9 + i, ignore_eos=True, **options)
        for i in range(count)
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_replays_that_run_no_python_give_the_same_tokens(
    tapes: list[TapeCapture], paths: Paths, is_async: bool
) -> None:
    target = engine(TensorRunner(), cuda_graphs=True, async_steps=is_async)
    found = run(target, rows(6))
    assert found == {
        one.request_id: tensor_tokens(one.prompt_token_ids, one.params.max_tokens or 0)
        for one in rows(6)
    }
    assert paths.by_host == 0
    num_rows = [len(replay.outputs[0]) for replay in tapes[0].replays]
    assert num_rows == [8, 2], "from 6 rows down to 1, of which 4 fit eight, and one fits two"


def test_more_rows_than_are_captured_are_launched(
    tapes: list[TapeCapture], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_steps, "captured_rows", lambda rows: 2 if rows <= 2 else None)
    found = run(engine(TensorRunner(), cuda_graphs=True), rows(4))
    assert {name: len(each) for name, each in found.items()} == {str(i): 9 + i for i in range(4)}
    assert {len(replay.outputs[0]) for replay in tapes[0].replays} == {2}
    assert paths.by_host == 0


def test_the_largest_step_of_a_kind_is_captured_first(tapes: list[TapeCapture]) -> None:
    """Or graphs would not find room in each other's memory."""
    target = engine(TensorRunner(), cuda_graphs=True, max_num_seqs=16)
    run(target, rows(2))
    assert [len(replay.outputs[0]) for replay in tapes[0].replays] == [16, 2]
    run(target, rows(5))
    assert [len(replay.outputs[0]) for replay in tapes[0].replays] == [16, 2, 4]


class Refusal:
    num_asked = 0

    def __call__(self, work: Work) -> Replay:
        self.num_asked += 1
        work()
        raise CaptureFailed("operation not permitted when stream is capturing")


def test_steps_that_cannot_be_captured_are_launched(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = Refusal()
    monkeypatch.setattr(device_steps, "capture_on", lambda _: refusal)
    found = run(engine(FakeRunner(), cuda_graphs=True), rows(5))
    assert found == run(engine(FakeRunner(), cuda_graphs=False), rows(5))
    assert (paths.by_host, paths.refused) == (0, [])
    assert refusal.num_asked == 1
    assert "piece by piece" in caplog.text


@pytest.mark.parametrize("graphs", [False, True])
def test_tokens_drawn_by_chance_do_not_depend_on_padding(
    tapes: list[TapeCapture], graphs: bool
) -> None:
    kinds: list[dict[str, Any]] = [
        {"temperature": 1.0, "seed": 4},
        {"temperature": 0.8, "seed": 5, "top_p": 0.9, "logprobs": 2},
        {"temperature": 1.0, "seed": 6, "repetition_penalty": 1.3, "min_tokens": 5},
        {"temperature": 1.2, "seed": 7, "top_k": 20, "logit_bias": {40: 2.0}},
    ]
    asked = [
        Request(str(i), (30, 31 + i), SamplingParams(max_tokens=12, **kind), stream_interval=0)
        for i, kind in enumerate(kinds)
    ]
    together = run(engine(TensorRunner(), cuda_graphs=graphs), asked)
    alone = {one.request_id: run(engine(TensorRunner()), [one])[one.request_id] for one in asked}
    assert together == alone
    assert all(together.values())


def test_nothing_is_read_back_to_begin_a_step(
    tapes: list[TapeCapture], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, num_begun = DeviceSteps.begin, 0

    def guarded(self: DeviceSteps, parts: Any) -> Any:
        nonlocal num_begun
        num_begun += 1
        with NoHostReads():
            return begin(self, parts)

    monkeypatch.setattr(DeviceSteps, "begin", guarded)
    found = run(engine(TensorRunner(), max_num_batched_tokens=9), rows(3))
    assert found["2"] == tensor_tokens(rows(3)[2].prompt_token_ids, 11)
    assert num_begun > 11, "prompts in chunks, beside single tokens"
    assert (paths.by_host, paths.refused) == (0, [])


class EventStream(HostStream):
    """Notes when tensors start on their way back, and when they are waited for."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: BaseException | None = None
        self._rooms: dict[int, torch.Tensor] = {}  # kept, or another tensor could get the address

    def host_room(self, num_bytes: int) -> torch.Tensor:
        room = super().host_room(num_bytes)
        self._rooms[room.data_ptr()] = room
        return room

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        super().copy(target, source)
        if target.data_ptr() in self._rooms:
            self.events.append("draws")

    def fence(self) -> Fence:
        return EventFence(self, len(self.events))


class EventFence:
    def __init__(self, stream: EventStream, number: int) -> None:
        self.stream = stream
        self.number = number

    def wait(self) -> None:
        if self.stream.error is not None:
            raise self.stream.error
        if self.stream.events[self.number - 1 : self.number] == ["draws"]:
            self.stream.events.append("waits")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> EventStream:
    made = EventStream()
    monkeypatch.setattr(device_steps, "stream_of", lambda _: made)
    return made


@pytest.mark.parametrize("params", [{}, {"repetition_penalty": 1.5, "logprobs": 1}], ids=str)
def test_a_step_begins_before_the_one_before_it_is_read(
    stream: EventStream, params: dict[str, Any]
) -> None:
    given = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True, **params)
    one = Request("a", (20, 21), given, stream_interval=0)
    expected = run(engine(FakeRunner()), [one])["a"]
    stream.events.clear()
    target = engine(FakeRunner(), async_steps=True, inline=True)
    target.add(one)
    target.step()
    assert "waits" not in stream.events
    num_draws = len(stream.events)
    target.step()
    assert "waits" not in stream.events[: 2 * num_draws], "until the second step had begun"
    assert stream.events.count("draws") == 2 * num_draws
    assert "waits" in stream.events
    assert run(target, [])["a"] == expected


def test_one_step_at_a_time_is_read_before_the_next(stream: EventStream) -> None:
    target = engine(FakeRunner())
    target.add(request("a", (20, 21), 3, ignore_eos=True))
    target.step()
    assert stream.events[-1] == "waits"


def test_a_row_that_has_ended_is_computed_once_more_and_nobody_sees_it(paths: Paths) -> None:
    for first in range(20, 250):
        output = greedy_tokens((first, 50), 20)
        if 2 < len(output) < 20:
            break
    else:
        raise AssertionError("no such prompt")
    runner = FakeRunner()
    target = engine(runner, async_steps=True, inline=True)
    assert run(target, [request("a", (first, 50), 20)])["a"] == output
    assert output[-1] == EOS
    assert runner.num_computed_tokens == 2 + len(output), "its end was not known"
    assert paths.by_host == 0


@pytest.mark.parametrize("graphs", [False, True])
def test_a_row_that_is_no_number_fails_alone(paths: Paths, graphs: bool) -> None:
    target = engine(FakeRunner(), cuda_graphs=graphs)
    for name, prompt in (("good", (20, 21)), ("bad", (30, NAN, 31))):
        target.add(request(name, prompt, 4, ignore_eos=True))
    ends = {output.request_id: output for output in steps_of(target)}
    assert ends["bad"].finish_reason is FinishReason.ERROR
    assert [*ends["good"].token_ids] == greedy_tokens((20, 21), 4, ignore_eos=True)
    assert (paths.by_host, paths.on_device) == (0, 4)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_that_fails_is_taken_by_the_host_and_the_next_is_not(
    paths: Paths, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    target = engine(FakeRunner(), async_steps=is_async, inline=is_async)
    target.add(request("first", (40, 41), 12, ignore_eos=True))
    for _ in range(3):
        target.step()
    for name, prompt in (("good", (20, 21)), ("bad", (30, POISON))):
        target.add(request(name, prompt, 4, ignore_eos=True))
    ends = {output.request_id: output for output in steps_of(target)}
    assert ends["bad"].finish_reason is FinishReason.ERROR
    assert [*ends["good"].token_ids] == greedy_tokens((20, 21), 4, ignore_eos=True)
    assert [*ends["first"].token_ids] == greedy_tokens((40, 41), 12, ignore_eos=True)
    assert (paths.by_host, paths.on_device, paths.refused) == (1, 11, ["RuntimeError"])
    assert caplog.text.count("the host takes it: RuntimeError") == 1


@pytest.mark.parametrize("is_landed", [False, True])
def test_penalties_go_on_by_the_host_where_a_step_in_flight_has_left_them(
    paths: Paths, is_landed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the host has taken in the token that its own path must count."""
    few: dict[str, Any] = {"temperature": 0, "max_tokens": 14, "allowed_token_ids": (50, 51, 52)}
    params = SamplingParams(**few, repetition_penalty=1.6, frequency_penalty=1.9, ignore_eos=True)
    one = Request("one", (20, 21), params, stream_interval=0)
    expected = run(engine(FakeRunner()), [one])["one"]
    free = Request("one", (20, 21), SamplingParams(**few, ignore_eos=True), stream_interval=0)
    assert expected != run(engine(FakeRunner()), [free])["one"]
    target = engine(FakeRunner(), async_steps=True, inline=True)
    run_by_host = StepLauncher._run_by_host

    def late(self: StepLauncher, *step: Any) -> Any:
        if is_landed and target._in_flight:
            target._land()
        return run_by_host(self, *step)

    monkeypatch.setattr(StepLauncher, "_run_by_host", late)
    target.add(one)
    for _ in range(3):
        target.step()
    target.add(request("bad", (30, POISON), 4))
    found: list[int] = []
    for output in steps_of(target):
        found += output.token_ids if output.request_id == "one" else ()
    assert found == expected
    assert paths.refused == ["RuntimeError"]


def test_a_step_that_lacks_memory_is_halved_by_the_host(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = FakeRunner()
    execute = runner.execute

    def small(batch: Any) -> torch.Tensor:
        if batch.num_tokens > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return execute(batch)

    monkeypatch.setattr(runner, "execute", small)
    target = engine(runner)
    asked = [request(str(i), (*range(20, 34), i + 50), 6, ignore_eos=True) for i in range(3)]
    assert run(target, asked) == {
        one.request_id: greedy_tokens(one.prompt_token_ids, 6, ignore_eos=True) for one in asked
    }
    assert target.stats().errors == 0
    assert target.stats().memory_errors > 0
    assert paths.on_device >= 5


@pytest.mark.parametrize(
    "params",
    [{"bad_words": ("ab",)}, {"prompt_logprobs": 1}, {"structured_outputs": {"regex": "[a-z]+"}}],
    ids=str,
)
def test_a_row_that_the_device_cannot_serve_takes_its_company_along(
    paths: Paths, params: dict[str, Any]
) -> None:
    target = engine(FakeRunner())
    first = request("first", (40, 41), 20, ignore_eos=True)
    target.add(first)
    target.step()
    target.step()
    given = SamplingParams(temperature=0, max_tokens=3, **params)
    target.add(Request("second", (50, 51), given, stream_interval=0))
    ends = {output.request_id: output for output in steps_of(target)}
    assert ends["second"].error is None
    assert [*ends["first"].token_ids] == greedy_tokens((40, 41), 20, ignore_eos=True)
    assert 1 <= paths.by_host <= 4
    assert paths.on_device >= 20 - 4
    assert not paths.refused


def test_a_device_that_is_lost_when_it_is_read_leaves_nothing_in_flight(
    stream: EventStream,
) -> None:
    target = engine(FakeRunner(), async_steps=True, inline=True)
    target.add(request("a", (20, 21), 9, ignore_eos=True))
    target.step()
    target.step()
    stream.error = torch.AcceleratorError()
    with pytest.raises(torch.AcceleratorError):
        target.step()
    stream.error = None
    target.abort("a")
    target.check()
    assert [output.finish_reason for output in target.step()] == [FinishReason.ABORT]
    assert target.stats().kv_used_fraction == 0.0


def steps_of(target: Engine) -> Iterator[StepOutput]:
    while target.has_work:
        yield from target.step()
        target.check()
