"""Has the engine's kernels compiled that later parts will time: Triton keeps them on disk.

A shape's kernels do not depend on how many layers it has, so two will do; they do depend on how
many rows a step has, by powers of two, and on whether all of them bring a single token. So rows
come together and go one after the other, and every other step has a visitor's prompt beside them.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
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
        prompt = (*common, *range(3, 8 + row % 9))
        yield request(f"row {row}", prompt, 4 + row * 80 // num_rows)


def request(name: str, prompt: tuple[int, ...], length: int) -> Request:
    params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
    return Request(name, prompt, params, stream_interval=0)


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
    for one in crowd(most, num_common):
        assert engine.add(one) is None
    for step in count():
        if not engine.has_work or part.seconds_left <= 0:
            break
        engine.step()
        if step % 2 and engine.num_running > 2 and not engine.num_waiting:
            assert engine.add(request(f"visitor {step}", (5, 6, 7), 2)) is None
    return {"complete": not engine.has_work, **watch.tell()}


def main() -> None:
    part = Part.from_command_line()
    watch = Watch.begin()
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(SHAPES[part.choice], Path(directory), tiny=part.tiny, num_layers=2)
        for kind in ("plain", "shared") if part.choice in SHARING else ("plain",):
            part.attempt(kind, partial(run, part, model, watch, kind))


if __name__ == "__main__":
    main()
