"""The engine's tokens on this device do not depend on the path to them.

Judged by the plainest path: one step at a time, laid out and sampled with the host. Rows arrive
over time, ask for different things, share beginnings and are sent back to wait, in float32. A close
choice may fall otherwise where a product of more rows rounds otherwise: one row may differ.
"""

import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from part import Part
from shapes import SHAPES, make_engine, save_model
from watch import Watch

from penstock.engine.engine import Engine
from penstock.engine.outputs import Priority, Request
from penstock.engine.sampling_params import SamplingParams

Mode = dict[str, Any]
Tokens = dict[tuple[str, int], tuple[int, ...]]

HOST: Mode = {"device_steps": False, "cuda_graphs": False, "async_steps": False}
DEVICE: Mode = {"device_steps": True, "cuda_graphs": False, "async_steps": False}
GRAPHS: Mode = {"device_steps": True, "cuda_graphs": True, "async_steps": False}
AHEAD: Mode = {"device_steps": True, "cuda_graphs": True, "async_steps": True}
MODES: dict[str, Mode] = {
    "by the host, several tokens a turn": HOST | {"steps_per_turn": 8},
    "by the host, a step ahead": HOST | {"async_steps": True},
    "by the host, shared prefixes": HOST | {"shared_prefix_attention": True},
    "by the device": DEVICE,
    "by the device, shared prefixes": DEVICE | {"shared_prefix_attention": True},
    "captured": GRAPHS,
    "captured, shared prefixes": GRAPHS | {"shared_prefix_attention": True},
    "captured, a step ahead": AHEAD,
    "captured, a step ahead, shared prefixes": AHEAD | {"shared_prefix_attention": True},
    "captured, a step ahead, no prefix cache": AHEAD | {"enable_prefix_caching": False},
}
ASKED: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.0, "logprobs": 3},
    {"temperature": 0.0, "repetition_penalty": 1.3, "presence_penalty": 0.4},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.9, "seed": 2, "top_p": 0.8, "n": 2},
    {"temperature": 1.0, "seed": 3, "top_k": 7, "min_p": 0.02},
    {"temperature": 0.8, "seed": 4, "logit_bias": {40: 3.0, 41: -100.0}},
    {"temperature": 0.0, "min_tokens": 4, "allowed_token_ids": (*range(50, 250),)},
)


def requests(part: Part) -> list[Request]:
    """Half of the rows begin alike, for longer than attention needs to read that once."""
    chance, rows = Random(part.seed), 12 if part.tiny else 64
    common = [chance.randint(3, 500) for _ in range(270 if part.tiny else 530)]
    most = 8 if part.tiny else 60
    made: list[Request] = []
    for row in range(rows):
        own = [chance.randint(3, 500) for _ in range(chance.choice([1, 15, 16, 17, 40]))]
        prompt = (*(common if row % 2 else ()), *own)
        values = {"max_tokens": chance.randint(most // 2, most), "ignore_eos": True}
        params = SamplingParams(**{**values, **ASKED[row % len(ASKED)]})
        priority = Priority.INTERACTIVE if row % 9 == 8 else Priority.BULK
        made.append(Request(str(row), prompt, params, priority=priority, stream_interval=0))
    return made


def serve(part: Part, engine: Engine, *, preempts: bool) -> Tokens:
    """Let requests arrive over time; with `preempts`, rows are sent back to wait."""
    chance, waiting, tokens = Random(part.seed), requests(part), Tokens()
    scheduler = engine._scheduler
    while waiting or engine.has_work:
        if part.seconds_left <= 0:
            raise TimeoutError(f"{len(tokens)} rows were done when time was over")
        for _ in range(min(len(waiting), chance.randrange(4))):
            assert engine.add(waiting.pop(0)) is None
        for output in engine.step():
            assert output.error is None, output.error
            tokens[output.request_id, output.sample_index] = output.token_ids
        if preempts and scheduler._running and chance.random() < 0.3:
            scheduler._preempt(chance.choice(scheduler._running))
    engine.check()
    return tokens


def engine_of(part: Part, model: Path, mode: Mode) -> Engine:
    torch.manual_seed(part.seed)  # the same weights, which are random
    return make_engine(
        model,
        part.device,
        dtype="float32",
        max_num_seqs=8 if part.tiny else 40,
        max_num_batched_tokens=128,  # so that prompts come in pieces
        max_model_len=1024,
        kv_cache_gb=0.05 if part.tiny else 0.5,
        **{"enable_prefix_caching": True, "shared_prefix_attention": False, **mode},
    )


def judge(part: Part, model: Path, expected: Tokens) -> dict[str, Any]:
    expected |= serve(part, engine_of(part, model, HOST | {"steps_per_turn": 1}), preempts=False)
    return {"rows": len(expected), "tokens": sum(map(len, expected.values()))}


def compare(
    part: Part, model: Path, watch: Watch, expected: Tokens, mode: Mode, *, preempts: bool
) -> dict[str, Any]:
    assert expected, "there is nothing to compare with"
    watch.reset()
    engine = engine_of(part, model, mode)
    found = serve(part, engine, preempts=preempts)
    differing = [key for key, tokens in expected.items() if found.get(key) != tokens]
    told: dict[str, Any] = {"rows_equal": 1 - len(differing) / len(expected)}
    if differing:
        place, row = min((_parting(expected[key], found.get(key, ())), key) for key in differing)
        told |= {"differing": len(differing), "earliest": f"token {place} of row {row}"}
    passed = len(differing) <= 1 and found.keys() == expected.keys()
    told |= {"preemptions": engine.stats().preemptions, "passed": passed}
    return told | watch.tell()


def _parting(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def main() -> None:
    part = Part.from_command_line()
    torch.backends.cuda.matmul.allow_tf32 = False
    expected, watch = Tokens(), Watch.begin()
    with tempfile.TemporaryDirectory() as directory:
        model = save_model(SHAPES["Qwen3-0.6B"], Path(directory), tiny=part.tiny, num_layers=3)
        part.attempt("judge", partial(judge, part, model, expected))
        for preempts in (False, True):
            for name, mode in MODES.items():
                told = f"{name}, preempted" if preempts else name
                part.attempt(
                    told, partial(compare, part, model, watch, expected, mode, preempts=preempts)
                )


if __name__ == "__main__":
    main()
