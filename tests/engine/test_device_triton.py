"""A whole step on the GPU's kernels, in Triton's interpreter, reads nothing back on its way."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.engine import device_sampler, device_steps, runner as runner_module
from penstock.engine.config import EngineConfig
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.drawing import GumbelMax
from penstock.engine.engine import Engine
from penstock.engine.graphs import RecordedWork, Replay, Work
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.step import Step
from penstock.engine.step_runner import StepRunner
from penstock.kernels import triton_step
from penstock.kernels.reference import LayerCache
from penstock.kernels.sampling_ops import SamplingOps, reference_ops, triton_ops
from penstock.kernels.triton_ops import TritonOps
from tests.kernels.triton_cases import poisoned_memory

from .tape import NoHostReads
from .test_equality import run
from .tiny_tokenizers import byte_level


class GuardedWork(RecordedWork):
    """Repeats the work, as a CPU does, where no tensor may be read."""

    def __call__(self, work: Work) -> Replay:
        return super().__call__(partial(_guarded, work))


def _guarded(work: Work) -> tuple[torch.Tensor, ...]:
    with NoHostReads():
        return work()


def requests() -> list[Request]:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 1.0, "seed": 4, "top_p": 0.9, "logprobs": 2},
        {"temperature": 0.8, "seed": 5, "repetition_penalty": 1.3, "logit_bias": {40: 2.0}},
    ]
    return [
        Request(
            str(number),
            (*range(20, 25 + 14 * number),),
            SamplingParams(max_tokens=3, ignore_eos=True, **kind),
            stream_interval=0,
        )
        for number, kind in enumerate(kinds)
    ]


def engine(directory: Path, **options: Any) -> Engine:
    config = EngineConfig(
        model=str(directory), device="cpu", dtype="float32", kv_cache_gb=0.001, **options
    )
    return Engine(config, tokenizer=byte_level())


def drawn_by(ops: SamplingOps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_sampler, "choose_sampling_ops", lambda _: ops)
    monkeypatch.setattr(device_sampler, "draw_on", lambda _: GumbelMax(ops))


def by_host(self: StepRunner, step: Step) -> None:
    raise AssertionError("the device could not serve a step")


def test_captured_and_launched_steps_of_the_kernels_give_the_twins_tokens(
    tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny_checkpoint("qwen3")
    with monkeypatch.context() as twins:
        drawn_by(reference_ops(), twins)
        expected = run(engine(directory, device_steps=True), requests())
    monkeypatch.setattr(runner_module, "choose_ops", lambda *_: TritonOps())
    monkeypatch.setattr(device_steps, "_kernels_for", lambda _: triton_step)
    monkeypatch.setattr(device_steps, "capture_on", lambda _: GuardedWork())
    drawn_by(triton_ops(), monkeypatch)
    monkeypatch.setattr(StepRunner, "run", by_host)
    begin = DeviceSteps.begin

    def guarded(self: DeviceSteps, parts: Any) -> Any:
        with NoHostReads():
            return begin(self, parts)

    monkeypatch.setattr(DeviceSteps, "begin", guarded)
    target = engine(directory, device_steps=True, cuda_graphs=True)
    runner: Any = target.runner
    runner._layer_caches = [
        LayerCache(*(torch.full(each.shape, torch.nan) for each in (cache.key, cache.value)))
        for cache in runner._layer_caches
    ]
    with poisoned_memory():
        # The null block is read by padding, and whatever it holds must not spread.
        found = run(target, requests())
    assert {key: output.token_ids for key, output in found.items()} == {
        key: output.token_ids for key, output in expected.items()
    }
    assert target.stats().errors == 0
