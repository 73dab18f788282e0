"""Tokens per second of the whole engine on random weights, as nano-vllm's benchmark counts them.

The work of 256 requests is done twice: the first time kernels may have to be compiled or loaded,
and steps captured. After it some steps are profiled, for how long the device idles; then comes the
work that `peers.py` has, and that of 1,024 requests, for as long as there is time.
"""

import gc
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from part import Part, tell
from serving import memory, profiled, serve
from shapes import SHAPES, Shape, Work, least_seconds, make_engine, save_model
from watch import Watch

from penstock.engine.engine import Engine

FP8 = " fp8"


def limits(part: Part) -> tuple[float, float]:
    """Measure copies and products here too: a GPU's clocks differ from minute to minute."""
    from rates import copy_rate, product_rate

    with part.device:
        rates = copy_rate(part), product_rate(part)
    gc.collect()
    if part.device.type == "cuda":
        torch.cuda.empty_cache()
    return rates


def measured(
    part: Part,
    engine: Engine,
    watch: Watch,
    shape: Shape,
    rates: tuple[float, float],
    work: Work,
    name: str,
    itemsize: int,
) -> dict[str, Any]:
    watch.reset()
    found = serve(part, engine, work, name)
    config = shape.config(part.tiny)
    asked = sum(work.lengths)
    roofline = asked / least_seconds(config, work, *rates, cache_itemsize=itemsize)
    nominal = asked / least_seconds(config, work, cache_itemsize=itemsize)
    shares = {
        "roofline": roofline,
        "share": found["tokens_per_s"] / roofline,
        "nominal_share": found["tokens_per_s"] / nominal,
    }
    return {**found, **shares, **watch.tell(), "preemptions": engine.stats().preemptions}


def cold_start(
    part: Part, model: Path, watch: Watch, made: list[Engine], **options: Any
) -> dict[str, Any]:
    """From nothing to the first answer: weights, memory, kernels, the first captures."""
    began = time.perf_counter()
    made.append(
        make_engine(
            model,
            part.device,
            max_num_seqs=4 if part.tiny else 512,
            max_num_batched_tokens=64 if part.tiny else 16384,
            max_model_len=64 if part.tiny else 2048,
            kv_cache_gb=0.01 if part.tiny else None,
            **options,
        )
    )
    loaded = time.perf_counter()
    serve(part, made[0], Work.of(2, tiny=True), "first")
    answered = time.perf_counter()
    return {
        "load_s": loaded - began,
        "first_answers_s": answered - loaded,
        "cold_start_s": answered - began,
        **memory(part),
        "cache_tokens": made[0].runner.num_blocks * made[0].runner.block_size,
        **watch.tell(),
    }


def main() -> None:
    part = Part.from_command_line()
    shape = SHAPES[part.choice.removesuffix(FP8)]
    in_eight_bits = part.choice.endswith(FP8)
    rates = limits(part)
    watch = Watch.begin()
    made: list[Engine] = []
    options = {"kv_cache_dtype": "fp8_e4m3"} if in_eight_bits else {}
    kinds = [("256 requests, first", 256, 1024), ("256 requests, again", 256, 1024)]
    if not in_eight_bits:
        kinds += [("64 requests, at most 256", 64, 256), ("1024 requests", 1024, 1024)]
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(shape, Path(directory), tiny=part.tiny)
        part.attempt("cold start", partial(cold_start, part, model, watch, made, **options))
        if not made:
            return
        for kind, num_requests, longest in kinds:
            num_requests //= 16 if part.tiny else 1
            work = Work.of(num_requests, tiny=part.tiny, longest=longest)
            part.attempt(
                kind,
                partial(
                    measured, part, made[0], watch, shape, rates, work, kind,
                    1 if in_eight_bits else 2,
                ),
            )  # fmt: skip
            if kind.endswith("again"):
                part.attempt("profile", partial(profiled, part, made[0], work, "profile"))
        tell("memory", **watch.memory(), **memory(part))


if __name__ == "__main__":
    main()
