"""What a decode step costs by the host, by the device, and as a CUDA graph; and the tokens of each.

The same rows in each mode, Qwen3-0.6B. Tokens are told as the part of rows that are equal to the
host's: in bfloat16 padding may change a product's last bit, and with it a close choice.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from part import Part
from shapes import SHAPES, make_engine, save_model

from penstock.engine.engine import Engine
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams

MODES: dict[str, dict[str, bool]] = {
    "by the host": {"device_steps": False, "cuda_graphs": False},
    "by the device": {"device_steps": True, "cuda_graphs": False},
    "captured": {"device_steps": True, "cuda_graphs": True},
}
SAMPLED: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "drawn": {"temperature": 0.8, "top_p": 0.95, "seed": 1, "repetition_penalty": 1.05},
}

Tokens = dict[str, tuple[int, ...]]


def serve(part: Part, engine: Engine, params: SamplingParams) -> tuple[Tokens, float]:
    """Return every row's tokens, and the seconds from when all run until the first has ended."""
    chance, (rows, size) = Random(part.seed), (4, 8) if part.tiny else (256, 256)
    for row in range(rows):
        prompt = tuple(chance.randint(3, 500) for _ in range(size))
        engine.add(Request(str(row), prompt, params, stream_interval=0))
    tokens: Tokens = {}
    began, steps = 0.0, 0
    spent = 0.0
    while engine.has_work:
        outputs = engine.step()
        if not began and not engine.num_waiting:
            part.synchronize()
            began, steps = time.perf_counter(), engine.stats().steps
        if outputs and not spent:
            part.synchronize()
            spent = (time.perf_counter() - began) / max(1, engine.stats().steps - steps)
        for output in outputs:
            assert output.error is None, output.error
            tokens[output.request_id] = output.token_ids
    return tokens, spent


def compare(
    part: Part, model: Path, values: dict[str, Any], found: dict[str, Tokens], mode: str
) -> dict[str, Any]:
    params = SamplingParams(max_tokens=6 if part.tiny else 128, ignore_eos=True, **values)
    torch.manual_seed(part.seed)  # the same weights, which are random
    engine = make_engine(
        model,
        part.device,
        max_num_seqs=4 if part.tiny else 256,
        max_num_batched_tokens=64 if part.tiny else 8192,
        max_model_len=64 if part.tiny else 1024,
        kv_cache_gb=0.01 if part.tiny else 20,
        **MODES[mode],
    )
    serve(part, engine, params)  # compiles and captures
    found[mode], step_s = serve(part, engine, params)
    engine.check()
    by_host = found.get("by the host", {})
    equal = sum(tokens == by_host.get(row) for row, tokens in found[mode].items())
    return {"step_ms": 1000 * step_s, "rows_equal": equal / len(found[mode])}


if __name__ == "__main__":
    part = Part.from_command_line()
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(SHAPES["Qwen3-0.6B"], Path(directory), tiny=part.tiny)
        for kind, values in SAMPLED.items():
            found: dict[str, Tokens] = {}
            for mode in MODES:
                part.attempt(f"{kind}, {mode}", partial(compare, part, model, values, found, mode))
