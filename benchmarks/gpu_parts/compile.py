"""Has the engine's kernels compiled that later parts will time: Triton keeps them on disk.

A shape's kernels do not depend on how many layers it has, so two will do; they do depend on how
many rows a step has, by powers of two, and on whether all of them bring a single token. So rows
come one after the other, and go one after the other.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from part import Part
from shapes import SHAPES, make_engine, save_model
from watch import Watch

from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams

MOST_ROWS = {"plain": 512, "shared": 1024}
COMMON_TOKENS = {"plain": 0, "shared": 2048}
SHARING = ("Qwen3-0.6B",)  # shapes that another part gives a shared prefix


def crowd(num_rows: int, num_common: int) -> Iterator[Request]:
    """Rows with a common beginning, that end one after the other."""
    common = [3 + place % 490 for place in range(num_common)]
    for row in range(num_rows):
        length = 3 + row * 80 // num_rows
        params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
        prompt = (*common, *range(3, 8 + row % 9))
        yield Request(f"{num_rows}-{row}", prompt, params, stream_interval=0)


def run(part: Part, model: Path, watch: Watch, kind: str) -> dict[str, Any]:
    most, num_common = MOST_ROWS[kind], COMMON_TOKENS[kind]
    if part.tiny:
        most, num_common = 8, min(num_common, 272)
    engine = make_engine(
        model,
        part.device,
        max_num_seqs=most,
        max_num_batched_tokens=512 if part.tiny else 16384,
        max_model_len=512 if part.tiny else 2560 if num_common else 2048,
        kv_cache_gb=0.02 if part.tiny else 4,
        enable_prefix_caching=bool(num_common),
        **({"shared_prefix_attention": True} if num_common else {}),
    )
    num_rows = most
    while num_rows and part.seconds_left > 0:
        for request in crowd(num_rows, num_common):
            assert engine.add(request) is None
            engine.step()  # with the others' single tokens beside its prompt
        while engine.has_work and part.seconds_left > 0:
            engine.step()
        num_rows //= 8
    return {"complete": not num_rows, **watch.tell()}


def main() -> None:
    part = Part.from_command_line()
    watch = Watch.begin()
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(SHAPES[part.choice], Path(directory), tiny=part.tiny, num_layers=2)
        for kind in ("plain", "shared") if part.choice in SHARING else ("plain",):
            part.attempt(kind, partial(run, part, model, watch, kind))


if __name__ == "__main__":
    main()
