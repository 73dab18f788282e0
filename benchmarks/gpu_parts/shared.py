"""1,024 rows that begin with the same 2,048 tokens, with shared-prefix attention and without.

Qwen3-0.6B. Both engines have the prefix cache, so that the ratio is that of attention alone.
"""

import gc
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from part import Part, tell
from serving import serve
from shapes import SHAPES, Work, make_engine, save_model
from watch import Watch


def job(*, tiny: bool) -> Work:
    """Rows of a common beginning, and 64 to 128 tokens of their own; as many come out."""
    rows, common, low, high = (6, 300, 4, 20) if tiny else (1024, 2048, 64, 128)
    chance = Random(0)
    beginning = [chance.randint(3, 500) for _ in range(common)]
    prompts = [
        (*beginning, *(chance.randint(3, 500) for _ in range(chance.randint(low, high))))
        for _ in range(rows)
    ]
    return Work(prompts, [chance.randint(low, high) for _ in range(rows)])


def run(part: Part, model: Path, watch: Watch, rates: dict[bool, float], *, shares: bool) -> Any:
    engine = make_engine(
        model,
        part.device,
        max_num_seqs=8 if part.tiny else 1024,
        max_num_batched_tokens=128 if part.tiny else 16384,
        max_model_len=512 if part.tiny else 2560,
        kv_cache_gb=0.02 if part.tiny else 60,
        enable_prefix_caching=True,
        shared_prefix_attention=shares,
    )
    work = job(tiny=part.tiny)
    short = Work(work.prompts, [min(length, 40) for length in work.lengths])
    serve(part, engine, short, "first")  # compiles, captures, and fills the prefix cache
    watch.reset()
    found = serve(part, engine, work, "again")
    rates[shares] = found["tokens_per_s"]
    return {**found, **watch.tell()}


def main() -> None:
    part = Part.from_command_line()
    watch, rates = Watch.begin(), dict[bool, float]()
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(SHAPES["Qwen3-0.6B"], Path(directory), tiny=part.tiny)
        for shares in (True, False):
            name = "shared" if shares else "row by row"
            part.attempt(name, partial(run, part, model, watch, rates, shares=shares))
            gc.collect()
            if part.device.type == "cuda":
                torch.cuda.empty_cache()
    if len(rates) == 2:
        tell("ratio", ratio=rates[True] / rates[False])


if __name__ == "__main__":
    main()
