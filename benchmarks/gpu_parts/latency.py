"""What 1, 10, 50 and 100 users wait: for the first token, and from token to token.

An open loop: each user asks once a second on average, whether or not the last answer is there, as
a Poisson process. 512 tokens in, 128 out, Qwen3-0.6B. A wait counts from when the request was due.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Any

from part import Part
from shapes import SHAPES, make_engine, save_model

from penstock.engine.engine import Engine
from penstock.engine.outputs import Priority, Request
from penstock.engine.sampling_params import SamplingParams

_PERIOD_S = 1.0  # between the requests of a user


def ask(part: Part, engine: Engine, chance: Random, name: str) -> None:
    size, length = (8, 5) if part.tiny else (512, 128)
    params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
    prompt = tuple(chance.randint(1, 500) for _ in range(size))
    refused = engine.add(Request(name, prompt, params, priority=Priority.INTERACTIVE))
    assert refused is None, refused


def wait(part: Part, engine: Engine, users: int) -> dict[str, Any]:
    chance, count = Random(users), max(5, 2 * users)
    period_s = 0.02 if part.tiny else _PERIOD_S
    gaps = [chance.expovariate(users / period_s) for _ in range(count)]
    began = time.perf_counter()
    due = {f"{users}-{n}": began + after for n, after in enumerate(accumulate(gaps))}
    waiting = [*due.items()]
    told: defaultdict[str, list[float]] = defaultdict(list)
    while (waiting or engine.has_work) and part.seconds_left > 0:
        while waiting and waiting[0][1] <= time.perf_counter():
            ask(part, engine, chance, waiting.pop(0)[0])
        if not engine.has_work:
            time.sleep(max(0.0, waiting[0][1] - time.perf_counter()))
            continue
        for output in engine.step():
            assert output.error is None, output.error
            told[output.request_id].append(time.perf_counter())
    first = sorted(times[0] - due[name] for name, times in told.items())
    between = sorted(b - a for times in told.values() for a, b in pairwise(times))
    return {
        "ttft_ms_p50": 1000 * statistics.median(first),
        "ttft_ms_p95": 1000 * first[int(0.95 * (len(first) - 1))],
        "between_ms_p50": 1000 * statistics.median(between),
        "between_ms_p95": 1000 * between[int(0.95 * (len(between) - 1))],
        "answers": len(first),
        "asked": count,
    }


def main() -> None:
    part = Part.from_command_line()
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(SHAPES["Qwen3-0.6B"], Path(directory), tiny=part.tiny)
        engine = make_engine(
            model,
            part.device,
            max_num_seqs=4 if part.tiny else 128,
            max_num_batched_tokens=64 if part.tiny else 4096,
            max_model_len=64 if part.tiny else 1024,
            kv_cache_gb=0.01 if part.tiny else 20,
        )
        most = 2 if part.tiny else 100
        part.attempt("warm up", partial(wait, part, engine, most))  # compiles and captures
        for users in (1, 10) if part.tiny else (1, 10, 50, 100):
            part.attempt(f"{users} users", partial(wait, part, engine, users))


if __name__ == "__main__":
    main()
