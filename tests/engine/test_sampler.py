from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from penstock.engine.drawing import Draw, GumbelMax, by_inverse_cdf, uniforms
from penstock.engine.sampler import NO_TOKEN_LEFT, NOT_FINITE, SampledTokens, sample
from penstock.kernels.sampling_ops import reference_ops

from .sampled_rows import EOS, row

CHI_SQUARE_LIMIT = 3.3  # standard deviations above its mean: one run in two thousand by chance


DRAWS = {"inverse CDF": by_inverse_cdf, "Gumbel-max": GumbelMax(reference_ops())}


@pytest.fixture(params=DRAWS.values(), ids=[*DRAWS])
def draw(request: pytest.FixtureRequest) -> Draw:
    """Both ways to draw, whichever this machine's device has."""
    return request.param


def draws(draw: Draw, logits: torch.Tensor, count: int, **params: Any) -> torch.Tensor:
    """Draw the same row at `count` places of its output, and count each token."""
    sequence = row(**params)
    drawn: list[int] = []
    for begin in range(0, count, 2000):
        places = range(begin, begin + 2000)
        drawn += sample(logits.repeat(2000, 1), [sequence] * 2000, places, draw).token_ids
    return torch.bincount(torch.tensor(drawn), minlength=len(logits))


def assert_drawn_from(counts: torch.Tensor, probabilities: torch.Tensor) -> None:
    assert int(counts[probabilities == 0].sum()) == 0, "a token without probability was drawn"
    expected = probabilities.double() * counts.sum()
    likely = expected >= 5
    observed = torch.cat([counts[likely].double(), counts[~likely].sum()[None].double()])
    expected = torch.cat([expected[likely], expected[~likely].sum()[None].clamp(min=1e-9)])
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
    chi_square = float(((observed - expected) ** 2 / expected).sum())
    freedom = max(1, len(expected) - 1)
    assert (chi_square - freedom) / (2 * freedom) ** 0.5 < CHI_SQUARE_LIMIT


FILTERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7},
    {"top_k": 5},
    {"top_k": 1},
    {"top_p": 0.7},
    {"top_p": 0.05},
    {"min_p": 0.2},
    {"top_k": 20, "top_p": 0.8},
    {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "min_p": 0.05},
]


@pytest.mark.parametrize("params", FILTERS, ids=str)
@pytest.mark.parametrize("vocab_size", [50, 1500])
def test_tokens_are_drawn_from_the_distribution_that_transformers_defines(
    draw: Draw, params: dict[str, Any], vocab_size: int
) -> None:
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(1)) * 1.5
    judge = LogitsProcessorList([TemperatureLogitsWarper(params.get("temperature", 1.0))])
    if "top_k" in params:
        judge.append(TopKLogitsWarper(params["top_k"]))
    if "top_p" in params:
        judge.append(TopPLogitsWarper(params["top_p"]))
    if "min_p" in params:
        judge.append(MinPLogitsWarper(params["min_p"]))
    scores = judge(torch.LongTensor([[0]]), torch.FloatTensor(logits[None].clone()))
    counts = draws(draw, logits, 4000, seed=3, **params)
    assert_drawn_from(counts, torch.softmax(scores[0], dim=-1))


def test_the_first_candidates_are_enough_or_are_not_relied_on() -> None:
    """A flat distribution keeps more tokens than are looked at first."""
    logits = torch.linspace(0.0, 0.5, 3000)
    probabilities = torch.softmax(logits, dim=-1)
    kept = torch.zeros_like(probabilities)
    order = probabilities.argsort(descending=True)
    kept[order[: int((probabilities[order].cumsum(0) < 0.9).sum()) + 1]] = 1.0
    expected = probabilities * kept
    counts = draws(by_inverse_cdf, logits, 4000, seed=1, top_p=0.9)
    assert int(counts[expected == 0].sum()) == 0
    assert int((counts > 0).sum()) > 1200
    counts = draws(by_inverse_cdf, logits, 2000, seed=1, top_k=2000)
    assert int(counts[:1000].sum()) == 0
    assert int(counts[1000:1900].sum()) > 500


@pytest.mark.parametrize("num_likelier", [0, 1, 700])
def test_of_equals_at_the_border_the_lowest_are_candidates(num_likelier: int) -> None:
    """Of many equals the first candidates hold any; those kept must be the lowest."""
    logits = torch.zeros(5000)
    likelier = torch.arange(4999, 4999 - num_likelier, -1)
    logits[likelier] = 1.0
    counts = draws(by_inverse_cdf, logits, 4000, seed=2, top_k=num_likelier + 2)
    drawn = {*torch.nonzero(counts).flatten().tolist()}
    assert drawn - {*likelier.tolist()} == {0, 1}


def test_greedy_takes_the_lowest_of_equals(draw: Draw) -> None:
    logits = torch.zeros(3, 40)
    logits[0, [7, 9]] = 1.0
    logits[2, [39, 38]] = 2.0
    assert sample(logits, [row(temperature=0)] * 3, draw=draw).token_ids == [7, 0, 38]


def test_a_temperature_near_nothing_is_greedy(draw: Draw) -> None:
    logits = torch.randn(1, 100)
    best = int(logits.argmax())
    nearly = [row(temperature=1e-6, top_p=0.5)]
    assert sample(logits.clone(), nearly, draw=draw).token_ids == [best]
    assert sample(logits.clone() * 1e-6, nearly, draw=draw).token_ids == [best]


def test_a_draw_depends_on_seed_sample_and_place_alone(draw: Draw) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3000, generator=generator)
    for params in FILTERS:
        me = row(seed=11, output=(1, 2, 3), **params)
        alone = sample(logits.clone(), [me], draw=draw).token_ids[0]
        crowd = [row(temperature=0), row(seed=4, top_k=7), row(top_p=0.3), row(), row(logprobs=3)]
        batch = torch.cat([torch.randn(5, 3000, generator=generator), logits])
        assert sample(batch, [*crowd, me], draw=draw).token_ids[-1] == alone
        other_id = row(seed=11, output=(1, 2, 3), request_id="another", **params)
        assert sample(logits.clone(), [other_id], draw=draw).token_ids[0] == alone
    sources = [{"seed": 1}, {"seed": 2}, {"seed": 1, "sample_index": 1}, {}, {"request_id": "b"}]
    sources += [{"request_id": "?"}, {"request_id": "\ud800"}, {"request_id": "\ud801"}]
    counts = {tuple(draws(draw, torch.zeros(50), 2000, **source).tolist()) for source in sources}
    assert len(counts) == len(sources)


def numbers(keys: list[int], places: Iterable[int]) -> np.ndarray:
    signed = torch.from_numpy(np.array(keys, dtype=np.uint64).view(np.int64))
    return uniforms(signed, torch.tensor([*places])).numpy()


def test_uniforms_are_uniform_and_independent() -> None:
    values = numbers([12345] * 20_000, range(20_000))
    assert values.min() >= 0.0
    assert values.max() < 1.0
    counts, _ = np.histogram(values, bins=50, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 49 + CHI_SQUARE_LIMIT * 98**0.5
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03
    neighbours = numbers([12346] * 20_000, range(20_000))
    assert abs(np.corrcoef(values, neighbours)[0, 1]) < 0.03
    extreme = numbers([0, 2**64 - 1], [0, 2**40])
    assert ((extreme >= 0) & (extreme < 1)).all()


def test_repetition_penalty_is_that_of_transformers() -> None:
    logits = torch.randn(1, 60)
    seen = [3, 4, 4, 9, 9, 9]
    processor = RepetitionPenaltyLogitsProcessor(1.8)
    judged = processor(torch.LongTensor([seen]), torch.FloatTensor(logits.clone()))
    mine = logits.clone()
    sample(mine, [row(prompt=(3, 4, 4), output=(9, 9, 9), temperature=0, repetition_penalty=1.8)])
    torch.testing.assert_close(mine, judged)


def test_a_sampler_that_fails_leaves_the_logits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 60)
    before = logits.clone()
    rows = [row(repetition_penalty=2.0, output=(9,)), row(min_tokens=5), row(logit_bias={3: 1})]
    monkeypatch.setattr("penstock.engine.sampler.uniforms", None)
    with pytest.raises(TypeError):
        sample(logits, rows)
    assert torch.equal(logits, before)


def test_presence_and_frequency_penalties_count_the_output_alone() -> None:
    logits = torch.randn(1, 60)
    mine = logits.clone()
    penalties: dict[str, Any] = {"presence_penalty": 0.5, "frequency_penalty": -0.25}
    sample(mine, [row(prompt=(3, 4), output=(9, 9, 9, 3), temperature=0, **penalties)])
    expected = logits.clone()
    expected[0, 9] -= 0.5 - 3 * 0.25
    expected[0, 3] -= 0.5 - 0.25
    torch.testing.assert_close(mine, expected)


def test_endings_are_out_of_reach_before_min_tokens() -> None:
    logits = torch.zeros(1, 10)
    logits[0, EOS], logits[0, 5], logits[0, 7] = 3.0, 2.0, 1.0
    params = {"temperature": 0, "min_tokens": 2, "stop_token_ids": (5, 10_000), "vocab_size": 10}
    assert sample(logits.clone(), [row(output=(), **params)]).token_ids == [7]
    assert sample(logits.clone(), [row(output=(1,), **params)]).token_ids == [7]
    assert sample(logits.clone(), [row(output=(1, 1), **params)]).token_ids == [EOS]


@pytest.mark.parametrize("params", [{"temperature": 0}, {}, {"top_p": 0.5}, {"logprobs": 2}])
@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
def test_a_row_without_numbers_is_faulty_and_its_neighbours_are_not(
    draw: Draw, params: dict[str, Any], fault: float
) -> None:
    logits = torch.randn(3, 40)
    expected = sample(logits.clone(), [row(**params)] * 3, draw=draw)
    broken = logits.clone()
    broken[1] = fault
    sampled = sample(broken, [row(**params)] * 3, draw=draw)
    assert sampled.faults == {1: NOT_FINITE}
    assert [sampled.token_ids[i] for i in (0, 2)] == [expected.token_ids[i] for i in (0, 2)]
    broken = logits.clone()
    broken[1, 3] = torch.nan
    assert sample(broken, [row(**params)] * 3, draw=draw).faults == {1: NOT_FINITE}


def test_a_row_whose_every_token_is_masked_is_told_so_and_its_neighbours_are_not(
    draw: Draw,
) -> None:
    masked = row(min_tokens=1, stop_token_ids=(0, 1, 3), vocab_size=4)
    logits = torch.randn(3, 4)
    expected = sample(logits[[0, 2]].clone(), [row(seed=1)] * 2, draw=draw).token_ids
    sampled = sample(logits, [row(seed=1), masked, row(seed=1)], draw=draw)
    assert sampled.faults == {1: NO_TOKEN_LEFT}
    assert [sampled.token_ids[i] for i in (0, 2)] == expected
    broken = torch.full((1, 4), torch.nan)
    assert sample(broken, [masked], draw=draw).faults == {0: NOT_FINITE}


def test_logprobs_are_the_models_own() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(5))
    rows = [
        row(temperature=0, logprobs=3),
        row(temperature=0),
        row(temperature=1.5, top_k=4, seed=1, logprobs=0, presence_penalty=1.0, output=(4, 4)),
        row(temperature=0.1, logprobs=20, min_tokens=3),
    ]
    sampled: SampledTokens = sample(logits.clone(), rows)
    assert sorted(sampled.logprobs) == [0, 2, 3]
    judged = torch.log_softmax(logits, dim=-1)
    for place, record in sampled.logprobs.items():
        assert record.token_id == sampled.token_ids[place]
        assert record.logprob == pytest.approx(float(judged[place, record.token_id]), abs=1e-6)
        wanted = rows[place].request.params.logprobs
        assert wanted is not None
        values, ids = judged[place].topk(wanted)
        assert [token_id for token_id, _ in record.top] == ids.tolist()
        assert [value for _, value in record.top] == pytest.approx(values.tolist(), abs=1e-6)


def test_asking_for_logprobs_changes_no_token(draw: Draw) -> None:
    logits = torch.randn(1, 500)
    for params in FILTERS:
        plain = row(seed=2, **params)
        asking = row(seed=2, logprobs=5, **params)
        found = sample(logits.clone(), [asking], draw=draw)
        assert found.token_ids == sample(logits.clone(), [plain], draw=draw).token_ids
