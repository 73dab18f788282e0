"""Tokens per second of the whole engine on random weights, as nano-vllm's benchmark counts them."""

import tempfile
import time
from pathlib import Path
from typing import Any

from part import Part, tell
from shapes import SHAPES, Work, least_seconds, make_engine, save_model

from penstock.engine.engine import Engine
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams


def run(part: Part, engine: Engine, work: Work, name: str) -> dict[str, Any]:
    """Work until all is done, or as long as there is time."""
    for number, (prompt, length) in enumerate(zip(work.prompts, work.lengths, strict=True)):
        params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
        refused = engine.add(Request(f"{name}-{number}", prompt, params, stream_interval=0))
        assert refused is None, refused
    before, steps = engine.stats().generated_tokens, engine.stats().steps
    done = 0
    part.synchronize()
    began = time.perf_counter()
    while engine.has_work and part.seconds_left > 0:
        done += sum(output.finish_reason is not None for output in engine.step())
    part.synchronize()
    took = time.perf_counter() - began
    generated = engine.stats().generated_tokens - before
    for number in range(len(work.prompts)):
        engine.abort(f"{name}-{number}")
    return {
        "tokens_per_s": generated / took,
        "seconds": took,
        "tokens": generated,
        "finished_requests": done,
        "complete": done == len(work.prompts),
        "ms_per_step": took / max(1, engine.stats().steps - steps) * 1000,
    }


def limits(part: Part) -> tuple[float, float]:
    """Measure copies and products here too: a GPU's clocks differ from minute to minute."""
    from rates import copy_rate, product_rate

    with part.device:
        return copy_rate(part), product_rate(part)


if __name__ == "__main__":
    part = Part.from_command_line()
    shape = SHAPES[part.choice]
    rates = limits(part)
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(shape, Path(directory), tiny=part.tiny)
        began = time.perf_counter()
        engine = make_engine(
            model,
            part.device,
            max_num_seqs=4 if part.tiny else 512,
            max_num_batched_tokens=64 if part.tiny else 16384,
            max_model_len=64 if part.tiny else 2048,
            kv_cache_gb=0.01 if part.tiny else None,
        )
        tell("load", seconds=time.perf_counter() - began)
        part.attempt("warm up", lambda: run(part, engine, Work.of(4, tiny=part.tiny), "warm"))
        for kind, num_requests, longest in (
            ("64 requests, at most 256", 64, 256),
            ("256 requests", 256, 1024),
            ("1024 requests", 1024, 1024),
        ):
            work = Work.of(
                num_requests // (16 if part.tiny else 1), tiny=part.tiny, longest=longest
            )

            def measured(work: Work = work, kind: str = kind) -> dict[str, Any]:
                found = run(part, engine, work, kind)
                ideal = sum(work.lengths) / least_seconds(shape.config(part.tiny), work, *rates)
                return {**found, "roofline": ideal, "share": found["tokens_per_s"] / ideal}

            part.attempt(kind, measured)
