"""Tokens are the same whether rows that share a prefix read it once or each for itself."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from penstock.engine import prefix_forest
from penstock.engine.config import EngineConfig
from penstock.engine.device_steps import DeviceSteps, StartedStep
from penstock.engine.engine import Engine
from penstock.engine.model_place import DEMO_MODEL
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.step import StepPart
from penstock.kernels.cpu import CpuOps
from penstock.kernels.prefix_groups import PrefixGroups

Tokens = dict[tuple[str, int], tuple[int, ...]]
LENGTHS = (5, 24, 9, 17, 14, 24, 20)  # so that rows leave one after the other
NUM_ROWS, MAX_TOKENS = len(LENGTHS), 7


class Seen:
    """How many times attention was told of groups, of how many rows at most, and what went wrong.

    The engine would hide that: what the device cannot do, the host does.
    """

    def __init__(self) -> None:
        self.num_times = 0
        self.most_rows = 0
        self.errors: list[Exception] = []


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Plain PyTorch everywhere, where any group pays, and a look at what it is told."""
    told, spread = Seen(), PrefixGroups.spread

    def noting(self: PrefixGroups, block_tables: torch.Tensor, block_size: int) -> torch.Tensor:
        told.num_times += 1
        told.most_rows = max(told.most_rows, int((self.prefix_lens > 0).sum()))
        return spread(self, block_tables, block_size)

    monkeypatch.setattr(CpuOps, "create", lambda *_: None)
    monkeypatch.setattr(prefix_forest, "_LAUNCH_BYTES", 0)
    monkeypatch.setattr(PrefixGroups, "spread", noting)
    begin = DeviceSteps.begin

    def beginning(self: DeviceSteps, parts: Sequence[StepPart]) -> StartedStep:
        try:
            return begin(self, parts)
        except Exception as error:
            told.errors.append(error)
            raise

    monkeypatch.setattr(DeviceSteps, "begin", beginning)
    return told


def requests() -> list[Request]:
    """Rows of which all share 256 tokens, and some another 256; the last is sampled twice."""
    chance = torch.Generator().manual_seed(1)

    def text(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 1000, (length,), generator=chance).tolist())

    common, branch = text(260), text(256)
    prompts = [common + (branch if i % 2 else ()) + text(3 + i) for i in range(NUM_ROWS)]
    greedy: dict[str, Any] = {"ignore_eos": True, "temperature": 0}
    drawn = greedy | {"temperature": 1.0, "seed": 3, "n": 2, "max_tokens": MAX_TOKENS}
    made = [
        Request(str(i), prompt, SamplingParams(**greedy, max_tokens=length), stream_interval=0)
        for i, (prompt, length) in enumerate(zip(prompts, LENGTHS, strict=True))
    ]
    return [Request("drawn", prompts[1], SamplingParams(**drawn), stream_interval=0), *made]


def tokens(**options: Any) -> Tokens:
    settings: dict[str, Any] = {"dtype": "float32", "device": "cpu", "kv_cache_gb": 0.05}
    target = Engine(EngineConfig(model=DEMO_MODEL, **settings, **options))
    for request in requests():
        assert target.add(request) is None
    found: Tokens = {}
    while target.has_work:
        for output in target.step():
            assert output.error is None
            found[output.request_id, output.sample_index] = tuple(output.token_ids)
    target.check()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"steps_per_turn": 1},
        {"steps_per_turn": 8},
        {"device_steps": True, "cuda_graphs": False},
        {"device_steps": True, "cuda_graphs": True, "async_steps": True},
        {"kv_cache_dtype": "fp8_e4m3"},
    ],
    ids=str,
)
def test_tokens_are_the_same(options: dict[str, Any], seen: Seen) -> None:
    expected = tokens(kv_cache_dtype=options.get("kv_cache_dtype", "auto"))
    assert len(expected) == NUM_ROWS + 2
    assert not seen.num_times, "on a CPU nobody looks for groups unless told to"
    assert tokens(shared_prefix_attention=True, **options) == expected
    assert not seen.errors
    assert seen.most_rows == NUM_ROWS + 2
    num_turns = max(LENGTHS) // options.get("steps_per_turn", 1)
    assert seen.num_times > 4 * num_turns // 2, "in each layer, of most turns' first step"


def test_rows_that_share_no_memory_are_in_no_group(seen: Seen) -> None:
    expected = tokens()
    assert tokens(shared_prefix_attention=True, enable_prefix_caching=False) == expected
    assert not seen.num_times
