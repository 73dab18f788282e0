"""Rows of a model that costs nothing: asked for, run to their ends, and told as they must be."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import Request, RequestError, StepOutput
from penstock.engine.sampler import sample
from penstock.engine.sampling_params import SamplingParams

from .fake_runner import FakeRunner, logits_after
from .tiny_tokenizers import byte_level

Samples = dict[tuple[str, int], list[StepOutput]]


def engine(
    *, num_blocks: int = 64, block_size: int = 16, max_model_len: int = 1 << 20, **config: Any
) -> Engine:
    runner = FakeRunner(num_blocks, block_size, max_model_len)
    config = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "device": "cpu", **config}
    return Engine(EngineConfig(**config), runner=runner, tokenizer=byte_level())


def request(name: str, prompt: Iterable[int], **options: Any) -> Request:
    fields = {
        key: options.pop(key)
        for key in ("priority", "cache_salt", "stream_interval")
        if key in options
    }
    params = SamplingParams(**{"temperature": 0, **options})
    return Request(name, tuple(prompt), params, **fields)


def run(target: Engine, *requests: Request, max_steps: int = 3000) -> Samples:
    """Run until nothing is left, and check the books after every step."""
    outputs: Samples = defaultdict(list)
    for one in requests:
        assert target.add(one) is None
    for _ in range(max_steps):
        if not target.has_work:
            break
        for output in target.step():
            outputs[output.request_id, output.sample_index].append(output)
        target.check()
    assert not target.has_work, f"still busy after {max_steps} steps"
    assert target.stats().kv_used_fraction == 0.0
    for pieces in outputs.values():
        assert [piece.finish_reason is None for piece in pieces] == [True] * (len(pieces) - 1) + [
            False
        ]
    return outputs


def tokens_of(pieces: list[StepOutput]) -> list[int]:
    return [token_id for piece in pieces for token_id in piece.token_ids]


def text_of(pieces: list[StepOutput]) -> str:
    return "".join(piece.text for piece in pieces)


def reference_tokens(one: Request, sample_index: int = 0) -> list[int]:
    """Return what a sample must give: one row, one token at a time, no engine."""
    maker = engine(num_blocks=1 << 16)
    rules = maker._rule_book.find(one.params)
    assert not isinstance(rules, RequestError)
    sequence = maker._sequence(one, sample_index, rules)
    while True:
        logits = logits_after(sequence.token_ids)[None]
        sequence.num_pending = 1
        sequence.take_token(*sample(logits, [sequence]).token_ids)
        if sequence.find_ending() is not None:
            return sequence.token_ids[sequence.num_prompt :]
