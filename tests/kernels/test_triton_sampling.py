"""Sampling's kernels agree with their twins, and the twins with probability and with the engine."""

from collections.abc import Iterator

import pytest
import torch

from penstock.engine.sampler import uniforms
from penstock.kernels import (
    reference_sampling,
    triton_filters,
    triton_logits,
    triton_logprobs,
    triton_sampling,
)
from penstock.kernels.reference_sampling import Kept, Penalties
from tests.kernels.triton_cases import assert_agree, poisoned_memory

VOCAB = 5000  # two tiles, the second not full


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    with poisoned_memory():
        yield


def random_keys(rows: int) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (rows,))


def test_words_are_what_the_engine_draws_from() -> None:
    keys, counters = random_keys(50), torch.arange(50) * 7
    words = reference_sampling.words(keys, counters).cpu().numpy().view("uint64")
    unsigned = keys.cpu().numpy().view("uint64").tolist()
    expected = uniforms(unsigned, counters.tolist())
    assert ((words >> 11) * 2.0**-53 == expected).all()


def test_draws_follow_the_softmax() -> None:
    """Pearson's test of 20,000 draws; 27.9 is exceeded once in a thousand times, had we no seed."""
    logits = torch.randn(10)
    draws, one = 20_000, torch.ones(1)
    counters = torch.arange(draws)
    tokens, _ = reference_sampling.sample(
        logits.expand(draws, -1), one.expand(draws), torch.full((draws,), 12345), counters
    )
    expected = draws * logits.softmax(-1)
    chi_square = ((tokens.bincount(minlength=10) - expected) ** 2 / expected).sum()
    assert chi_square < 27.9


@pytest.mark.parametrize("vocab", [10, VOCAB])
def test_sample(vocab: int) -> None:
    rows = 6
    logits = 3 * torch.randn(rows, vocab)
    logits[1, 3] = logits[1, 7] = 50.0  # equals: the lower id is taken
    logits[5] = 0.0  # equals: a filter keeps those up to an id
    temperatures = torch.tensor([0.0, 0.0, 1.0, 0.3, 2.0, 1.0])
    keys, counters = random_keys(rows), torch.arange(rows) * 1000
    kept = Kept(logits.median(-1).values, torch.full((rows,), 4).int())
    for limits in (None, kept):
        tokens, scores = triton_sampling.sample(logits, temperatures, keys, counters, limits)
        possible = reference_sampling.scores(logits, temperatures, keys, counters, limits)
        expected = possible.max(-1)
        assert_agree(scores, expected.values)
        if limits is None:
            assert tokens[:2].tolist() == [logits[0].argmax(), 3]
        # Logarithms differ in the last bits, which could turn a draw between two near equals.
        assert_agree(possible.gather(1, tokens[:, None])[:, 0], expected.values)
        assert limits is None or tokens[5] <= 4


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_that_are_no_numbers_show(temperature: float) -> None:
    logits = torch.randn(4, VOCAB)
    logits[0, VOCAB - 1] = torch.nan
    logits[1] = -torch.inf
    logits[2, 5] = torch.inf
    temperatures, keys = torch.full((4,), temperature), random_keys(4)
    _, scores = triton_sampling.sample(logits, temperatures, keys, keys)
    assert scores[:3].tolist() == [torch.inf, -torch.inf, torch.inf]
    assert scores[3].isfinite()


@pytest.mark.parametrize("vocab", [7, VOCAB])
def test_filters(vocab: int) -> None:
    settings = [
        (0, 1.0, 0.0),
        (1, 1.0, 0.0),
        (5, 1.0, 0.0),
        (0, 0.6, 0.0),
        (0, 1.0, 0.05),
        (4, 0.7, 0.0),
        (50, 0.9, 0.1),
        (0, 0.001, 0.0),
        (10**6, 0.5, 0.2),
    ]
    if vocab == VOCAB:  # which takes longer
        settings = [settings[place] for place in (2, 3, 5, 6)]
    top_k, top_p, min_p = (torch.tensor(column) for column in zip(*settings, strict=True))
    rows = len(settings)
    logits = 2 * torch.randn(rows, vocab)
    logits[:, ::2] = logits[:, ::2].round()  # many equals: ids decide
    # Nothing but equals: top-p counts in shares of those that top-k leaves.
    logits[settings.index((4, 0.7, 0.0))] = 0.0
    temperatures = torch.full((rows,), 0.8)
    temperatures[0] = 0.0  # counts as 1 here, whatever it does elsewhere
    case = (logits, temperatures, top_k.int(), top_p, min_p)
    found, expected = triton_filters.keep_likeliest(*case), reference_sampling.keep_likeliest(*case)
    tempered = logits / temperatures.where(temperatures != 0, 1.0)[:, None]
    assert torch.equal(kept_by(found, tempered), kept_by(expected, tempered))


def kept_by(kept: Kept, tempered: torch.Tensor) -> torch.Tensor:
    equal = tempered == kept.lowest[:, None]
    ids = torch.arange(tempered.shape[1])
    return (tempered > kept.lowest[:, None]) | (equal & (ids <= kept.last_id[:, None]))


def test_a_filter_that_is_not_a_number_ends() -> None:
    logits = torch.randn(2, 50)
    logits[0, 3] = torch.nan
    one = torch.ones(2)
    triton_filters.keep_likeliest(logits, one, (5 * one).int(), 0.5 * one, 0.1 * one)


def test_penalties() -> None:
    slots = torch.tensor([2, -1, 0])
    before, *_ = storage = torch.zeros(4, VOCAB, dtype=torch.int32)
    history = storage[1:]
    reference_sampling.record_prompt(history, 2, torch.tensor([1, 4, 4, VOCAB - 1]))
    twin = history.clone()
    for tokens in ([7, 7, 7], [7, 3, VOCAB - 1], [1, 0, 7]):
        reference_sampling.record(twin, slots, torch.tensor(tokens))
        triton_logits.record(history, slots, torch.tensor(tokens))
    assert torch.equal(history, twin)
    assert not before.any()  # where slot -1 would be
    assert history[2, [1, 4, 7]].tolist() == [3, 1, 4]
    penalties = Penalties(*(torch.tensor(x) for x in ([1.3, 2.0, 0.7], [0.5, 1.0, 0], [0.2, 1, 0])))
    logits = torch.randn(3, VOCAB)
    expected = logits.clone()
    reference_sampling.penalise(expected, twin, slots, penalties)
    assert (expected != logits).sum() == 6
    triton_logits.penalise(logits, history, slots, penalties)
    assert_agree(logits, expected)


@pytest.mark.parametrize("spare", [0, 64])
def test_bitmask(spare: int) -> None:
    logits, rows = torch.randn(3, VOCAB), torch.tensor([2, 0])
    bits = torch.randint(-(2**31), 2**31 - 1, (2, (VOCAB - spare) // 32)).int()
    expected = logits.clone()
    reference_sampling.allow(expected, rows, bits)
    triton_logits.allow(logits, rows, bits)
    assert torch.equal(logits, expected)
    assert 0.4 < expected[0].isinf().float().mean() < 0.6


def test_top_logprobs() -> None:
    logits = 3 * torch.randn(3, VOCAB)
    logits[0, ::2] = 12.0  # more equals than are asked for: the lowest ids
    logits[1, 20:] = -torch.inf
    chosen = torch.tensor([0, 3, VOCAB - 1])
    for count in (0, 1, 20):
        found = triton_logprobs.top_logprobs(logits, chosen, count)
        expected = reference_sampling.top_logprobs(logits, chosen, count)
        assert_agree(found[0], expected[0])
        assert_agree(found[1], expected[1])
        assert torch.equal(found[2], expected[2])


def test_too_many_logprobs_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be from 0 to 10, got 11"):
        triton_logprobs.top_logprobs(torch.zeros(1, 10), torch.zeros(1, dtype=torch.int64), 11)
