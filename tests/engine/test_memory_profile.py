"""What the largest steps take is measured before the cache is made, and told in bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.engine import memory_profile
from penstock.engine.batch import StepBatch
from penstock.engine.config import EngineConfig
from penstock.engine.memory_profile import StepLimits, measure, padding_batch
from penstock.engine.runner import ModelRunner

CPU = torch.device("cpu")
MIB = 1024**2


class Meter:
    """Says in turn what it is given, and what was done before each look."""

    def __init__(self, *peaks: int) -> None:
        self.peaks = [*peaks]
        self.log: list[str] = []

    def free_and_total(self) -> tuple[int, int]:
        self.log.append("free")
        return 1000 * MIB, 2000 * MIB

    def reset(self) -> None:
        self.log.append("reset")

    def peak_bytes(self) -> int:
        self.log.append("peak")
        return self.peaks.pop(0)


def limits(**options: object) -> StepLimits:
    chosen: dict[str, object] = {
        "max_rows": 6,
        "max_tokens": 100,
        "max_model_len": 64,
        "block_size": 16,
        "vocab_size": 263,
        "device": CPU,
        "on_device": True,
        "are_captured": True,
    }
    return StepLimits(**{**chosen, **options})  # pyright: ignore[reportArgumentType]: of all types


@pytest.mark.parametrize(
    ("are_captured", "graph_bytes"), [(True, 7 * MIB + 12 * 8 * MIB), (False, 0)]
)
def test_the_largest_step_and_the_largest_graph_are_measured(
    are_captured: bool, graph_bytes: int
) -> None:
    meter, steps = Meter(90 * MIB, 7 * MIB), []

    def decode(batch: StepBatch, caches: object) -> torch.Tensor:
        meter.log.append("step")
        steps.append((batch.num_tokens, batch.num_rows, len(batch.logit_rows)))
        return torch.zeros(len(batch.logit_rows), 263)

    found = measure(decode, [], limits(are_captured=are_captured), meter)
    assert (found.free_bytes, found.total_bytes) == (1000 * MIB, 2000 * MIB)
    assert (found.step_bytes, found.graph_bytes) == (90 * MIB, graph_bytes)
    assert steps == [(100, 8, 100), (8, 8, 8)][: 1 + are_captured]
    assert meter.log[:5] == ["reset", "free", "step", "peak", "reset"]
    assert meter.log[-1] == "reset", "what was made is given back"


def test_the_steps_are_done_on_the_models_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(90 * MIB, 7 * MIB)

    @contextmanager
    def using(device: torch.device) -> Iterator[None]:
        meter.log.append(f"use {device}")
        yield
        meter.log.append("leave")

    def decode(batch: StepBatch, caches: object) -> torch.Tensor:
        meter.log.append("step")
        return torch.zeros(len(batch.logit_rows), 263)

    monkeypatch.setattr(memory_profile, "using", using)
    measure(decode, [], limits(), meter)
    assert (meter.log[0], meter.log[-1]) == ("use cpu", "leave")
    assert meter.log.count("step") == 2


@pytest.mark.parametrize(("num_tokens", "num_rows"), [(100, 8), (8, 8), (5, 5), (640, 10)])
def test_the_steps_are_padding(num_tokens: int, num_rows: int) -> None:
    batch = padding_batch(limits(), num_tokens, num_tokens)
    assert (batch.num_tokens, batch.num_rows) == (num_tokens, num_rows)
    assert (batch.slots == -1).all()
    assert not batch.block_tables.any()
    assert batch.block_tables.shape[1] == 4
    assert int(batch.context_lens.sum()) == num_tokens
    assert int(batch.context_lens.min()) >= 1
    assert batch.max_context_len <= 64
    assert torch.equal(batch.positions[batch.query_start[:-1].long()], torch.zeros(num_rows).long())


@pytest.mark.parametrize("options", [{}, {"device_steps": True, "cuda_graphs": True}], ids=str)
def test_a_model_does_them_and_writes_nowhere(
    options: dict[str, Any], tiny_checkpoint: Callable[[str], Path]
) -> None:
    directory = tiny_checkpoint("llama")
    config = EngineConfig(
        model=str(directory), device="cpu", kv_cache_gb=0.01, max_num_seqs=6, **options
    )
    runner, meter = ModelRunner(config), Meter(50 * MIB, 6 * MIB)
    found = runner._measure(config, runner._cache.block, meter)
    assert found.step_bytes == 50 * MIB
    assert found.graph_bytes == (6 * MIB + 12 * 8 * MIB if options else 0)
    assert not runner._cache._storage.any()
