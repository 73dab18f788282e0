"""Many tiny requests of every kind, one after the other: each has one end, and nothing stays.

The model is made up, so what is measured is the engine's own books: sequences, blocks, hashes,
forecasts, outputs. A leak of a hundred bytes per request is seen.
"""

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator
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
MAX_LEAK = 16  # bytes per request that measuring itself may cost


def requests(num_requests: int, num_names: int) -> Iterator[Request]:
    """Yield requests of all kinds that take few steps; jobs and salts have `num_names` names."""
    chance = Random(7)
    preambles = [tuple(chance.choices(range(10, 259), k=20)) for _ in range(8)]
    for number in range(num_requests):
        kind = chance.random()
        prompt = chance.choice(preambles)[: chance.randint(1, 20)]
        prompt += tuple(chance.choices(range(10, 259), k=chance.randint(1, 6)))
        params = SamplingParams(
            temperature=0.0 if kind < 0.5 else 1.0,
            max_tokens=chance.randint(1, 4),
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


def run(num_requests: int, num_names: int, after: Callable[[int], None]) -> Engine:
    """Serve them all, some aborted midway, and call `after` with how many have ended so far."""
    engine = Engine(
        EngineConfig(max_num_seqs=16, max_num_batched_tokens=96, device="cpu"),
        runner=FakeRunner(num_blocks=40, block_size=4),
        tokenizer=byte_level(),
    )
    source = requests(num_requests, num_names)
    live: dict[str, Request] = {}
    num_samples: dict[str, int] = {}
    tokens: dict[str, list[int]] = {}
    num_ended = num_errors = 0
    while num_ended < num_requests:
        while len(live) < NUM_AT_ONCE and (request := next(source, None)) is not None:
            assert engine.add(request) is None
            live[request.request_id] = request
            num_samples[request.request_id] = request.params.n
            tokens[request.request_id] = []
            if int(request.request_id) % 37 == 0:
                engine.abort(request.request_id)
        for output in engine.step():
            name = output.request_id
            tokens[name] += output.token_ids
            if output.finish_reason is None:
                continue
            num_errors += output.finish_reason is FinishReason.ERROR
            num_samples[name] -= 1
            if num_samples[name]:
                continue
            request, found = live.pop(name), tokens.pop(name)
            del num_samples[name]
            num_ended += 1
            is_alone = request.params == SamplingParams(
                temperature=0.0, max_tokens=request.params.max_tokens
            )
            if is_alone and output.finish_reason in (FinishReason.LENGTH, FinishReason.STOP):
                wanted = greedy_tokens(request.prompt_token_ids, request.params.max_tokens or 0)
                assert found == wanted, name
            after(num_ended)
        if num_ended % 64 == 0:
            engine.check()
    assert not engine.has_work
    engine.check()
    assert engine.stats().kv_used_fraction == 0.0
    assert engine.stats().errors == num_errors > 0
    assert engine.stats().cached_tokens > num_requests
    return engine


def test_thousands_of_requests_leave_nothing_behind() -> None:
    sizes: dict[int, int] = {}

    def measure(num_ended: int) -> None:
        if num_ended in (1000, 3000):
            gc.collect()
            sizes[num_ended] = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        engine = run(3000, num_names=8, after=measure)
    finally:
        tracemalloc.stop()
    assert (sizes[3000] - sizes[1000]) / 2000 < MAX_LEAK
    assert engine.stats().preemptions > 0, "or it was too easy"


@pytest.mark.soak
def test_a_hundred_thousand_requests_leave_nothing_behind() -> None:
    """As above, by the memory that the process holds; every job and salt is a new one."""
    num_requests = 100_000
    samples: list[tuple[int, int]] = []

    def measure(num_ended: int) -> None:
        if num_ended > num_requests // 2 and num_ended % 1000 == 0:
            samples.append((num_ended, resident_bytes()))

    run(num_requests, num_names=num_requests, after=measure)
    assert slope(samples) < MAX_LEAK


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(points: list[tuple[int, int]]) -> float:
    """Return the slope of the line that lies nearest to the points."""
    middle_x, middle_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    rise = sum((x - middle_x) * (y - middle_y) for x, y in points)
    return rise / sum((x - middle_x) ** 2 for x, _ in points)
