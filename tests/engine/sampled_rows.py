"""Sequences to sample, without a model or a tokenizer behind them."""

from typing import Any

from penstock.engine.detokenizer import Detokenizer
from penstock.engine.logit_rules import LogitRules
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.sequence import Sequence

from .tiny_tokenizers import byte_level

EOS = 2


def row(
    *,
    prompt: tuple[int, ...] = (5, 6),
    output: tuple[int, ...] = (),
    request_id: str = "r",
    sample_index: int = 0,
    vocab_size: int = 50,
    bad_words: tuple[tuple[int, ...], ...] = (),
    **values: Any,
) -> Sequence:
    params = SamplingParams(**values)
    has_rules = params.min_tokens or params.logit_bias or params.allowed_token_ids or bad_words
    rules = LogitRules.of(params, bad_words, vocab_size=vocab_size, eos_token_ids=frozenset({EOS}))
    sequence = Sequence(
        Request(request_id, prompt, params),
        sample_index,
        rules=rules if has_rules else None,
        detokenizer=Detokenizer(byte_level()),
        arrival=0,
        context_window=1 << 20,
        eos_token_ids=frozenset({EOS}),
    )
    for token_id in output:
        sequence.take_token(token_id)
    return sequence
