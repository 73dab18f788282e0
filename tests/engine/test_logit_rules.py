"""Biases, allowed tokens, bad words and penalties: transformers' own, and each row's alone."""

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import NoBadWordsLogitsProcessor, RepetitionPenaltyLogitsProcessor

from penstock.engine.config import EngineConfig
from penstock.engine.drawing import by_inverse_cdf
from penstock.engine.engine import Engine
from penstock.engine.logit_rules import BadWords, LogitRules, RuleBook
from penstock.engine.outputs import FinishReason, Request, RequestError, StepOutput
from penstock.engine.penalties import TokenHistory
from penstock.engine.sampler import sample
from penstock.engine.sampling_params import RepetitionDetection, SamplingParams

from .fake_runner import VOCAB_SIZE, FakeRunner
from .test_sampler import assert_drawn_from, draws, row
from .tiny_tokenizers import byte_fallback, byte_level


def random_logits(vocab_size: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, vocab_size, generator=torch.Generator().manual_seed(seed)) * 1.5


def test_a_bias_is_added_to_its_token_alone() -> None:
    logits = random_logits()
    mine = logits.clone()
    sample(mine, [row(logit_bias={3: 1.5, 40: -2})])
    expected = logits.clone()
    expected[0, 3] += 1.5
    expected[0, 40] -= 2
    assert torch.equal(mine, expected)


def test_the_strongest_biases_force_and_forbid() -> None:
    logits = random_logits()
    best = int(logits.argmax())
    assert sample(logits.clone(), [row(temperature=0, logit_bias={7: 100})]).token_ids == [7]
    assert sample(logits.clone(), [row(temperature=0, logit_bias={best: -100})]).token_ids != [best]


def test_biased_tokens_are_drawn_from_the_biased_distribution() -> None:
    logits = random_logits()[0]
    biased = logits.clone()
    biased[[2, 9]] += torch.tensor([2.0, -1.0])
    counts = draws(by_inverse_cdf, logits, 4000, seed=1, logit_bias={2: 2.0, 9: -1.0})
    assert_drawn_from(counts, torch.softmax(biased, dim=-1))


@pytest.mark.parametrize("params", [{}, {"top_p": 0.8}, {"top_k": 3}], ids=str)
def test_only_allowed_tokens_are_drawn_and_as_if_there_were_no_others(
    params: dict[str, Any],
) -> None:
    logits = random_logits()[0]
    allowed = (1, 4, 9, 30, 31)
    left = torch.full_like(logits, -torch.inf)
    left[list(allowed)] = logits[list(allowed)]
    counts = draws(by_inverse_cdf, logits, 4000, seed=1, allowed_token_ids=allowed, **params)
    assert int(counts.sum() - counts[list(allowed)].sum()) == 0
    if not params:
        assert_drawn_from(counts, torch.softmax(left, dim=-1))


@pytest.mark.parametrize(
    "output", [(), (5,), (6,), (4, 5), (5, 5), (5, 6), (6, 5), (9, 5, 6), (1, 2), (2,), (3, 1, 2)]
)
def test_bad_words_are_those_of_transformers(output: tuple[int, ...]) -> None:
    words = [(7,), (5, 6), (5, 5), (5, 6, 8), (1, 2, 3), (4, 5, 9)]
    logits = random_logits()
    judge = NoBadWordsLogitsProcessor([list(word) for word in words])
    judged = judge(torch.LongTensor([[*output]]), torch.FloatTensor(logits.clone()))
    mine = logits.clone()
    sample(mine, [row(prompt=(40,), output=output, bad_words=tuple(words))])
    assert torch.equal(mine, judged)


def test_a_bad_word_that_the_prompt_begins_may_be_completed() -> None:
    logits = random_logits()
    mine = logits.clone()
    sample(mine, [row(prompt=(3, 5), bad_words=((5, 6), (3, 5, 7)))])
    assert torch.equal(mine, logits)
    words = BadWords.of([(5, 6), (3, 5, 7)])
    assert words.forbidden_after([3, 5], 1) == [6]
    assert words.forbidden_after([3, 5], 2) == [6, 7]


@pytest.mark.parametrize("seed", range(4))
def test_penalties_kept_up_token_by_token_are_those_of_all_tokens(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prompt = tuple(torch.randint(0, 90, (30,), generator=generator).tolist())
    output = torch.randint(0, 300, (200,), generator=generator).tolist()
    params = SamplingParams(repetition_penalty=1.3, frequency_penalty=0.2, presence_penalty=-0.4)
    history = TokenHistory.of(params, prompt)
    assert history is not None
    for count, token_id in enumerate(output, start=1):
        history.add(token_id)
        if count % 37:
            continue
        logits = random_logits(300, count)
        judge = RepetitionPenaltyLogitsProcessor(1.3)
        seen = torch.LongTensor([[*prompt, *output[:count]]])
        expected = judge(seen, torch.FloatTensor(logits.clone()))
        for token, times in Counter(output[:count]).items():
            expected[0, token] -= 0.2 * times - 0.4
        history.penalise(logits[0], params)
        torch.testing.assert_close(logits, expected)


def test_biases_come_before_penalties() -> None:
    logits = random_logits()
    mine = logits.clone()
    sample(mine, [row(prompt=(3,), logit_bias={3: 5.0}, repetition_penalty=2.0)])
    value = float(logits[0, 3]) + 5.0
    assert float(mine[0, 3]) == pytest.approx(value / 2 if value > 0 else value * 2)


def test_a_row_with_rules_does_not_depend_on_its_neighbours() -> None:
    features: list[dict[str, Any]] = [
        {"logit_bias": {5: 3.0, 6: -3.0}},
        {"allowed_token_ids": tuple(range(0, 50, 3))},
        {"bad_words": ((5,), (9, 6), (9, 9, 9, 8))},
        {"frequency_penalty": 1.0, "presence_penalty": 0.5, "repetition_penalty": 1.4},
        {"min_tokens": 9, "logprobs": 2},
    ]
    everything = {name: value for feature in features for name, value in feature.items()}
    for params in (*features, everything):
        logits = random_logits(seed=3)
        me = {"seed": 8, "output": (9, 9, 9), **params}
        alone = sample(logits.clone(), [row(**me)])
        crowd = [row(seed=i, **feature) for i, feature in enumerate(features)]
        batch = torch.cat([*(random_logits(seed=9 + i) for i in range(len(crowd))), logits])
        together = sample(batch, [*crowd, row(**me)])
        assert together.token_ids[-1] == alone.token_ids[0]
        if "logprobs" in params:
            one, many = together.logprobs[len(crowd)], alone.logprobs[0]
            assert one.token_id == many.token_id
            assert one.logprob == pytest.approx(many.logprob, abs=1e-6)


def test_what_must_not_end_yet_may_end_if_nothing_else_is_left() -> None:
    rules = LogitRules.of(SamplingParams(min_tokens=3, stop_token_ids=(4,)), vocab_size=6)
    logits = torch.zeros(6)
    rules.hold_back_endings(logits, unless_alone=True)
    assert torch.isinf(logits).tolist() == [False] * 4 + [True, False]
    alone = torch.tensor([-torch.inf] * 4 + [1.0, -torch.inf])
    rules.hold_back_endings(alone, unless_alone=True)
    assert alone[4] == 1.0
    rules.hold_back_endings(alone, unless_alone=False)
    assert bool((alone == -torch.inf).all())


def rule_book(tokenizer: Any) -> RuleBook:
    return RuleBook(tokenizer, vocab_size=VOCAB_SIZE, eos_token_ids=frozenset({2}))


def test_words_are_bad_with_and_without_a_space_before_them() -> None:
    book = rule_book(byte_level())
    rules = book.find(SamplingParams(bad_words=("  the", "x")))
    assert isinstance(rules, LogitRules)
    assert rules.bad_words is not None
    words = [byte_level().encode_word(text) for text in ("the", " the", "x", " x")]
    found = [word for word in words if isinstance(word, tuple)]
    assert rules.bad_words == BadWords.of([word for word in found if len(word) > 1])
    assert rules.allowed is not None
    single = {word[0] for word in found if len(word) == 1}
    assert {*torch.nonzero(~rules.allowed).flatten().tolist()} == single
    assert len(single) == 2
    spaced = rule_book(byte_fallback()).find(SamplingParams(bad_words=("ab",)))
    assert isinstance(spaced, LogitRules)


def test_rules_are_made_once_for_parameters_that_differ_in_nothing_that_matters() -> None:
    book = rule_book(byte_level())
    values: dict[str, Any] = {"bad_words": ("x",), "logit_bias": {5: 1.0}, "min_tokens": 2}
    first = book.find(SamplingParams(seed=1, **values))
    assert first is not None
    assert book.find(SamplingParams(seed=2, temperature=0.5, **values)) is first
    others = [{"bad_words": ("y",)}, {"logit_bias": {5: 2.0}}, {"min_tokens": 0},
              {"stop_token_ids": (4,)}, {"allowed_token_ids": (4, 5)}]  # fmt: skip
    for other in others:
        assert book.find(SamplingParams(**{**values, **other})) is not first
    assert book.find(SamplingParams(seed=1)) is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"logit_bias": {263: 1}}, "logit_bias must hold token ids from 0 to 262, got 263"),
        (
            {"allowed_token_ids": (4, 999)},
            "allowed_token_ids must hold token ids from 0 to 262, got 999",
        ),
        ({"bad_words": ("a\ud800",)}, "bad_words cannot be tokenized: 'a\\ud800'"),
    ],
)
def test_rules_for_tokens_that_are_not_there_refuse_the_row(
    params: dict[str, Any], message: str
) -> None:
    engine = make_engine()
    refused = engine.add(Request("r", (5, 6), SamplingParams(**params)))
    assert refused is not None
    assert refused.error == RequestError(
        code="invalid_request", message=message, param=next(iter(params)), stage="validate"
    )
    assert not engine.has_work


def make_engine(**options: Any) -> Engine:
    return Engine(
        EngineConfig(device="cpu", max_num_seqs=8, **options),
        runner=FakeRunner(),
        tokenizer=byte_level(),
    )


def run(engine: Engine, **params: Any) -> StepOutput:
    values = {"max_tokens": 40, "ignore_eos": True, "seed": 1, **params}
    engine.add(Request("r", (50, 60, 70), SamplingParams(**values), stream_interval=0))
    outputs: list[StepOutput] = []
    while engine.has_work:
        outputs += engine.step()
        engine.check()
    (output,) = outputs
    return output


def test_a_bad_word_is_never_completed_in_the_output() -> None:
    letters = [byte_level().encode(letter)[0] for letter in "ab "]  # pyright: ignore[reportIndexIssue]
    engine = make_engine()
    free = run(engine, allowed_token_ids=letters, max_tokens=200)
    assert "ab" in free.text
    assert "bb" in free.text
    kept = run(engine, allowed_token_ids=letters, max_tokens=200, bad_words=("ab", "bb"))
    assert "ab" not in kept.text
    assert "bb" not in kept.text
    assert len(kept.token_ids) == 200


@pytest.mark.parametrize("params", [{}, {"frequency_penalty": 1.0}, {"bad_words": ("q",)}])
def test_turns_and_steps_in_flight_change_no_row(params: dict[str, Any]) -> None:
    outputs = [
        run(make_engine(**options), **params)
        for options in (
            {"async_steps": False, "steps_per_turn": 1},
            {"async_steps": True, "steps_per_turn": 1},
            {"async_steps": True, "steps_per_turn": 8},
        )
    ]
    assert len({output.token_ids for output in outputs}) == 1


def test_an_output_that_repeats_itself_ends() -> None:
    engine = make_engine()
    loop = {"temperature": 0, "allowed_token_ids": (70,)}
    detection = RepetitionDetection(max_pattern_size=3, min_count=5)
    output = run(engine, repetition_detection=detection, **loop)
    assert len(output.token_ids) == 5
    assert (output.finish_reason, output.stop_reason) == (FinishReason.STOP, "repetition_detected")
    assert len(output.text) == 5
    later = run(engine, repetition_detection=detection, min_tokens=9, **loop)
    assert len(later.token_ids) == 9
    never = run(engine, **loop)
    assert (len(never.token_ids), never.finish_reason) == (40, FinishReason.LENGTH)
    varied = run(engine, repetition_detection=RepetitionDetection(max_pattern_size=8, min_count=4))
    assert varied.finish_reason is FinishReason.LENGTH


def test_rules_stay_with_the_host_until_it_must_apply_them_elsewhere() -> None:
    """A device's own tables are filled from them, and reading back would wait for its steps."""
    params = SamplingParams(logit_bias={3: 1.0}, allowed_token_ids=(3, 4), min_tokens=2)
    rules = rule_book(byte_level()).find(params)
    assert isinstance(rules, LogitRules)
    tensors = (rules.bias_ids, rules.bias, rules.allowed, rules.endings)
    assert {each.device.type for each in tensors if each is not None} == {"cpu"}
    there = rules.on(torch.device("meta"))
    assert there is rules.on(torch.device("meta")), "sent once"
    sent = (there.bias_ids, there.bias, there.allowed, there.endings)
    assert {each.device.type for each in sent if each is not None} == {"meta"}
    rules.apply(torch.empty(VOCAB_SIZE, device="meta"), [5, 6], 0)
    rules.hold_back_endings(torch.empty(VOCAB_SIZE, device="meta"), unless_alone=False)
