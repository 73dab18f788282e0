"""Many tiny requests of every kind, one after the other: each has one end, and nothing stays.

The model is made up, so what is measured is the engine's own books: sequences, blocks, hashes,
forecasts, outputs. A leak of a hundred bytes per request is seen.
"""

import gc
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from random import Random

import pytest

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import FinishReason, Priority, Request
from penstock.engine.sampling_params import SamplingParams

from .fake_runner import NAN, FakeRunner, greedy_tokens
from .tiny_tokenizers import byte_level

NUM_AT_ONCE = 48
MAX_LEAK = 32  # bytes per request; a leaked list alone takes 56


def requests(num_names: int) -> Iterator[Request]:
    """Yield requests of all kinds that take few steps; jobs and salts have `num_names` names."""
    chance = Random(7)
    preambles = [tuple(chance.choices(range(10, 259), k=20)) for _ in range(8)]
    for number in count():
        kind = chance.random()
        prompt = chance.choice(preambles)[: chance.randint(1, 20)]
        prompt += tuple(chance.choices(range(10, 259), k=chance.randint(1, 6)))
        params = SamplingParams(
            temperature=0.0 if kind < 0.5 else 1.0,
            max_tokens=chance.randint(1, 6),
            n=2 if kind > 0.97 else 1,
            seed=number if kind > 0.9 else None,
            top_p=0.9 if 0.8 < kind < 0.9 else 1.0,
            stop=("th", "e") if 0.7 < kind < 0.75 else (),
            logprobs=2 if 0.65 < kind < 0.7 else None,
            presence_penalty=0.5 if 0.6 < kind < 0.65 else 0.0,
        )
        yield Request(
            str(number),
            (*prompt, NAN) if 0.55 < kind < 0.56 else prompt,
            params,
            priority=Priority.INTERACTIVE if number % 9 == 0 else Priority.BULK,
            job=f"job-{number // 10 % num_names}",
            cache_salt=f"salt-{number // 25 % num_names}" if number % 3 == 0 else "",
            stream_interval=int(number % 5 == 0),
        )


def tiny_engine(*, async_steps: bool = False) -> Engine:
    """An engine whose cache is too small for all that it is given at once."""
    return Engine(
        EngineConfig(
            max_num_seqs=16, max_num_batched_tokens=96, device="cpu", async_steps=async_steps
        ),
        runner=FakeRunner(num_blocks=40, block_size=4),
        tokenizer=byte_level(),
    )


def serve(engine: Engine, some: Iterable[Request]) -> None:
    """Serve them all, some aborted as soon as they have come, and verify each one's end."""
    source = iter(some)
    live: dict[str, Request] = {}
    tokens: dict[str, list[int]] = {}
    num_ends: Counter[str] = Counter()
    num_served = 0
    while True:
        while len(live) < NUM_AT_ONCE and (request := next(source, None)) is not None:
            assert engine.add(request) is None
            live[request.request_id], tokens[request.request_id] = request, []
            if int(request.request_id) % 37 == 0:
                engine.abort(request.request_id)
        if not engine.has_work:
            break
        for output in engine.step():
            name = output.request_id
            tokens[name] += output.token_ids
            num_ends[name] += output.finish_reason is not None
            if num_ends[name] == live[name].params.n:
                verify(live.pop(name), tokens.pop(name), output.finish_reason)
                del num_ends[name]
                num_served += 1
        if num_served % 64 == 0:
            engine.check()
    assert not live
    engine.check()
    assert engine.stats().kv_used_fraction == 0.0


def verify(request: Request, found: list[int], reason: FinishReason | None) -> None:
    """Compare a finished request's tokens with what they must be, where that is easily told."""
    max_tokens = request.params.max_tokens or 0
    is_bare = request.params == SamplingParams(temperature=0.0, max_tokens=max_tokens)
    if NAN in request.prompt_token_ids:
        assert reason in (FinishReason.ERROR, FinishReason.ABORT)
    elif is_bare and reason is not FinishReason.ABORT:
        assert found == greedy_tokens(request.prompt_token_ids, max_tokens)


def test_thousands_of_requests_leave_nothing_behind() -> None:
    engine, source = tiny_engine(), requests(num_names=8)
    tracemalloc.start()
    try:
        serve(engine, islice(source, 1000))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        serve(engine, islice(source, 2000))
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (after - before) / 2000 < MAX_LEAK
    stats = engine.stats()
    assert stats.errors > 0
    assert stats.cached_tokens > 3000
    assert stats.preemptions > 0, "or it was too easy"


@pytest.mark.soak
@pytest.mark.parametrize("async_steps", [False, True])
def test_a_hundred_thousand_requests_leave_nothing_behind(async_steps: bool) -> None:
    """As above, by the memory that the process holds; jobs and salts are new ones all the time."""
    engine, source = tiny_engine(async_steps=async_steps), requests(num_names=100_000)
    serve(engine, islice(source, 50_000))
    points: list[tuple[int, int]] = []
    for number in range(50):
        serve(engine, islice(source, 1000))
        points.append((1000 * number, resident_bytes()))
    assert slope(points) < MAX_LEAK


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(points: list[tuple[int, int]]) -> float:
    """Return the slope of the line that lies nearest to the points."""
    middle_x, middle_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    rise = sum((x - middle_x) * (y - middle_y) for x, y in points)
    return rise / sum((x - middle_x) ** 2 for x, _ in points)
