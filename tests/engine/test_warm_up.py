"""What is compiled and captured at load covers what comes, and changes nothing of it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from penstock.engine import device_sampler, device_steps
from penstock.engine.captured import StepKind
from penstock.engine.config import EngineConfig
from penstock.engine.device_sampler import Needs
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.drawing import GumbelMax
from penstock.engine.engine import Engine
from penstock.engine.warm_up import warm_up
from penstock.kernels.sampling_ops import reference_ops

from .lives import request, run
from .tape import TapeCapture
from .tensor_runner import TensorRunner, tensor_tokens
from .tiny_tokenizers import byte_level


class Steps:
    """Notes what it is asked to do."""

    def __init__(self, *, has_prefixes: bool = True) -> None:
        self.has_prefixes = has_prefixes
        self.captured: list[tuple[int, Needs]] = []
        self.launched: list[tuple[int, bool, int]] = []
        self.error: Exception | None = None

    def narrowest(self, num_rows: int) -> StepKind:
        return StepKind(num_rows, width=64, needs=Needs.NOTHING, has_groups=False)

    def capture_padding(self, kind: StepKind) -> None:
        self.captured.append((kind.num_rows, kind.needs))

    def launch_padding(self, kind: StepKind, num_prompt_tokens: int) -> None:
        self.launched.append((kind.num_rows, kind.has_groups, num_prompt_tokens))
        if self.error is not None:
            raise self.error


def test_every_size_that_kernels_are_compiled_for_is_done_the_largest_first() -> None:
    steps = Steps()
    warm_up(steps, max_rows=40, max_tokens=512)
    sizes = [32, 16, 8, 4, 2, 1]
    assert steps.captured == [
        (size, needs) for size in sizes for needs in (Needs.FILTERS, Needs.NOTHING)
    ]
    assert steps.launched == [
        (size, has_groups, tokens)
        for size in (32, 16)
        for has_groups in (False, True)
        for tokens in (0, 64, 512 - size)
    ]


def test_few_rows_and_few_tokens_are_not_exceeded() -> None:
    steps = Steps(has_prefixes=False)
    warm_up(steps, max_rows=3, max_tokens=3)
    assert [*dict(steps.captured)] == [2, 1]
    assert steps.launched == [(2, False, 0), (2, False, 1)]


def test_a_step_that_fails_is_told_of_unless_the_device_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = Steps()
    steps.error = RuntimeError("out of resource")
    warm_up(steps, max_rows=16, max_tokens=512)
    assert len(steps.launched) == 6
    assert "out of resource" in caplog.text
    steps.error = torch.AcceleratorError("an illegal memory access")
    with pytest.raises(torch.AcceleratorError):
        warm_up(steps, max_rows=16, max_tokens=512)


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[TapeCapture]:
    made: list[TapeCapture] = []

    def capture_on(device: torch.device) -> TapeCapture:
        made.append(TapeCapture())
        return made[-1]

    monkeypatch.setattr(device_steps, "capture_on", capture_on)
    monkeypatch.setattr(device_sampler, "draw_on", lambda _: GumbelMax(reference_ops()))
    return made


def engine(**config: Any) -> Engine:
    chosen = EngineConfig(device="cpu", device_steps=True, async_steps=False, **config)
    runner: Any = TensorRunner()
    return Engine(chosen, runner=runner, tokenizer=byte_level())


def device_of(target: Engine) -> DeviceSteps:
    device = target._launcher._on_device
    assert device is not None
    return device


def test_what_is_captured_at_load_covers_every_number_of_rows(tapes: list[TapeCapture]) -> None:
    target = engine(cuda_graphs=True, max_num_seqs=6)
    warm_up(device_of(target), max_rows=6, max_tokens=64)
    assert [len(replay.outputs[0]) for replay in tapes[0].replays] == [8, 4, 8, 4, 2, 2, 1, 1]
    asked = [request(str(i), (20 + i, 30), 3 + i, ignore_eos=True) for i in range(6)]
    found = run(target, asked)
    assert found == {
        one.request_id: tensor_tokens(one.prompt_token_ids, one.params.max_tokens or 0)
        for one in asked
    }
    assert len(tapes[0].replays) == 8, "none in service"
    assert target.stats().host_steps == 0


def test_a_models_blocks_are_not_written_to(tiny_checkpoint: Callable[[str], Path]) -> None:
    config = EngineConfig(
        model=str(tiny_checkpoint("llama")),
        device="cpu",
        kv_cache_gb=0.01,
        max_num_seqs=6,
        device_steps=True,
        cuda_graphs=True,
        shared_prefix_attention=True,
    )
    target = Engine(config, tokenizer=byte_level())
    warm_up(device_of(target), max_rows=6, max_tokens=64)
    assert not target.runner._cache._storage.any()  # pyright: ignore[reportAttributeAccessIssue]: a ModelRunner's


def init_on(device: str) -> Callable[[TensorRunner], None]:
    init = TensorRunner.__init__

    def made(self: TensorRunner) -> None:
        init(self)
        self.device = torch.device(device)

    return made


def test_an_engine_on_a_gpu_is_warmed_up_and_on_a_cpu_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warmed: list[dict[str, int]] = []
    monkeypatch.setattr(
        "penstock.engine.engine.warm_up", lambda steps, **limits: warmed.append(limits)
    )
    engine(max_num_seqs=6, max_num_batched_tokens=64)
    assert not warmed
    monkeypatch.setattr(DeviceSteps, "of", lambda runner, config: Mock())
    monkeypatch.setattr("penstock.engine.engine.using", lambda device: nullcontext())
    monkeypatch.setattr(TensorRunner, "__init__", init_on("cuda:1"))
    engine(max_num_seqs=6, max_num_batched_tokens=64)
    assert warmed == [{"max_rows": 6, "max_tokens": 64}]
