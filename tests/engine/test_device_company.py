"""Which rows go to the device: as many as can, for one that cannot takes the whole step along."""

from typing import Any

import pytest

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams

from .fake_runner import FakeRunner
from .lives import run
from .tiny_tokenizers import byte_level

NUM_TOKENS = 30


def engine(**config: Any) -> Engine:
    chosen = EngineConfig(
        device="cpu", device_steps=True, max_num_seqs=8, async_steps=False, **config
    )
    return Engine(chosen, runner=FakeRunner(), tokenizer=byte_level())


def rows(count: int, **params: Any) -> list[Request]:
    given = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True, **params)
    return [Request(f"{params}{i}", (20, 21 + i), given, stream_interval=0) for i in range(count)]


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(
    ("params", "num_by_host"),
    [
        ({"prompt_logprobs": 1}, 1),
        ({"bad_words": ("x",)}, NUM_TOKENS),
        ({"allowed_token_ids": (30, 31, 32)}, 0),
        ({"repetition_penalty": 1.2}, 0),
    ],
    ids=str,
)
def test_the_host_takes_the_steps_that_it_must(
    params: dict[str, Any], num_by_host: int, graphs: bool
) -> None:
    target = engine(cuda_graphs=graphs)
    run(target, [*rows(5), *rows(1, **params)])
    stats = target.stats()
    assert (stats.host_steps, stats.device_errors) == (num_by_host, 0)
    assert stats.device_steps == stats.steps - num_by_host


def test_as_many_rows_as_there_are_may_have_penalties() -> None:
    target = engine()
    run(target, rows(8, presence_penalty=0.5))
    assert (target.stats().host_steps, target.stats().device_errors) == (0, 0)
