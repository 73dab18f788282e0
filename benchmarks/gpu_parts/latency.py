"""What 1, 10, 50 and 100 users wait: for the first token, and from token to token.

Each user sends the next request when the last one is answered: 512 tokens in, 128 out, Qwen3-0.6B.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from part import Part
from shapes import SHAPES, make_engine, save_model

from penstock.engine.engine import Engine
from penstock.engine.outputs import Priority, Request
from penstock.engine.sampling_params import SamplingParams

REQUESTS_PER_USER = 3


def wait(part: Part, engine: Engine, users: int) -> dict[str, Any]:
    chance, (size, length) = Random(users), (8, 5) if part.tiny else (512, 128)
    params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
    asked: dict[str, float] = {}
    told: defaultdict[str, list[float]] = defaultdict(list)

    def ask(user: int, turn: int) -> None:
        name = f"{users}-{user}-{turn}"
        prompt = tuple(chance.randint(1, 500) for _ in range(size))
        asked[name] = time.perf_counter()
        engine.add(Request(name, prompt, params, priority=Priority.INTERACTIVE))

    for user in range(users):
        ask(user, 0)
    while engine.has_work and part.seconds_left > 0:
        for output in engine.step():
            assert output.error is None, output.error
            told[output.request_id].append(time.perf_counter())
            if output.finish_reason is not None:
                _, user, turn = map(int, output.request_id.split("-"))
                if turn + 1 < REQUESTS_PER_USER:
                    ask(user, turn + 1)
    first = [times[0] - asked[name] for name, times in told.items()]
    gaps = [b - a for times in told.values() for a, b in pairwise(times)]
    return {
        "ttft_ms_p50": 1000 * statistics.median(first),
        "ttft_ms_p95": 1000 * sorted(first)[int(0.95 * (len(first) - 1))],
        "between_ms_p50": 1000 * statistics.median(gaps),
        "between_ms_p95": 1000 * sorted(gaps)[int(0.95 * (len(gaps) - 1))],
        "answers": len(first),
    }


if __name__ == "__main__":
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
        part.attempt("warm up", lambda: wait(part, engine, 2))
        for users in (1, 10) if part.tiny else (1, 10, 50, 100):
            part.attempt(f"{users} users", partial(wait, part, engine, users))
