"""An output has the form that was asked for, or ends with an error; it never has another form."""

import re
from typing import TYPE_CHECKING, cast

import pytest
import torch

from penstock.engine.grammar import Grammar, GrammarVocabulary, Matcher
from penstock.engine.outputs import FinishReason, StepOutput
from penstock.engine.sampling_params import StructuredOutputs

from .fake_runner import EOS
from .formed_rows import SHORT, an_array, an_object, finish, form_of, make_engine, request, run
from .tiny_tokenizers import byte_level

if TYPE_CHECKING:
    from llguidance import LLMatcher


@pytest.mark.parametrize(
    "form",
    [
        form_of({"type": "strin"}),
        form_of({"enum": []}),
        form_of({"type": "integer", "minimum": 5, "maximum": 3}),
        form_of({"allOf": [{"type": "string"}, {"type": "number"}]}),
        form_of({"$ref": "#/definitions/nowhere"}),
        form_of({"$ref": "http://127.0.0.1:1/schema.json"}),
        form_of({"type": "string", "pattern": "(?=a)b"}),
        form_of({"not": {"type": "null"}}),
        StructuredOutputs(regex="(a|b"),
        StructuredOutputs(grammar="start: nowhere"),
        StructuredOutputs(grammar="::= ::="),
        form_of({"$ref": "#"}),
        StructuredOutputs(regex=r"[^\s\S]"),
        StructuredOutputs(grammar='root ::= root "a"'),
    ],
    ids=str,
)
def test_a_form_that_cannot_be_fulfilled_fails_its_row_alone(form: StructuredOutputs) -> None:
    engine = make_engine()
    good = StructuredOutputs(regex="ab")
    outputs = run(engine, request("good", good), request("bad", form, n=2), request("plain"))
    assert outputs["good", 0].text == "ab"
    assert outputs["plain", 0].error is None
    for sample in (0, 1):
        error = outputs["bad", sample].error
        assert error is not None
        assert (error.code, error.param) == ("invalid_request", "structured_outputs")
        assert error.message.startswith("structured_outputs cannot be fulfilled: ")
        assert "<non-verbose/>" not in error.message
        assert "NoExtension" not in error.message
        assert not error.retryable
        assert outputs["bad", sample].token_ids == ()
    assert engine.stats().errors == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "lexer error: too many expressions constructed\n<non-verbose/>",
            "cannot be fulfilled: too large to be followed (too many expressions constructed); "
            "simplify them",
        ),
        (
            "Parser Error: no such token\n<non-verbose/>",
            "cannot be followed further: Parser Error: no such token",
        ),
    ],
)
def test_what_llguidance_says_is_told_in_words_of_the_form(said: str, told: str) -> None:
    class AtFault:
        def is_error(self) -> bool:
            return True

        def get_error(self) -> str:
            return said

    vocabulary = GrammarVocabulary(byte_level(), vocab_size=263, eos_token_ids={EOS})
    error = Matcher(vocabulary, cast("LLMatcher", AtFault())).error
    assert error is not None
    assert error.message == f"structured_outputs {told}"
    is_forms_fault = "too many" in said
    assert (error.code == "invalid_request") == (error.stage == "validate") == is_forms_fault


def test_samples_go_their_own_ways() -> None:
    form = StructuredOutputs(regex="[a-z]{8}")
    outputs = run(make_engine(), request("r", form, n=5))
    texts = [outputs["r", sample].text for sample in range(5)]
    assert len({*texts}) == 5
    assert all(re.fullmatch("[a-z]{8}", text) for text in texts)


def test_preemption_and_company_change_nothing() -> None:
    form = form_of(an_object(a=SHORT, b=an_array({"type": "boolean"}, 6, 6)))
    requests = [request(str(seed), form, seed=seed) for seed in range(6)]
    alone = {key: o.text for r in requests for key, o in run(make_engine(), r).items()}
    together = run(make_engine(num_blocks=600), *requests)
    engine = make_engine()
    for each in requests:
        engine.add(each)
    preempted: dict[tuple[str, int], StepOutput] = {}
    num_steps = 0
    while engine.has_work:
        for output in engine.step():
            preempted[output.request_id, output.sample_index] = output
        num_steps += 1
        if num_steps % 3 == 0 and engine.num_running:
            engine._scheduler._preempt(engine._scheduler._running[-1])
        engine.check()
    assert engine.stats().preemptions > 3
    assert {key: output.text for key, output in together.items()} == alone
    assert {key: output.text for key, output in preempted.items()} == alone


def test_min_tokens_gives_way_where_the_form_must_end() -> None:
    many = StructuredOutputs(regex="a{1,9}")
    engine = make_engine()
    requests = [request(str(s), many, seed=s, min_tokens=5) for s in range(12)]
    outputs = run(engine, *requests, request("short", StructuredOutputs(regex="ab"), min_tokens=9))
    assert min(len(o.text) for (name, _), o in outputs.items() if name != "short") >= 5
    assert outputs["short", 0].text == "ab"
    assert {output.finish_reason for output in outputs.values()} == {FinishReason.STOP}
    without = run(make_engine(), *(request(str(s), many, seed=s) for s in range(12)))
    assert min(len(output.text) for output in without.values()) < 5, "or nothing was tested"


def test_it_goes_with_the_other_parameters() -> None:
    form = StructuredOutputs(regex="[ab]{12}")
    engine = make_engine()
    token = {letter: byte_level().encode(letter)[0] for letter in "ab"}  # pyright: ignore[reportIndexIssue]
    outputs = run(
        engine,
        request("bias", form, logit_bias={token["a"]: -100.0}),
        request("bad", form, bad_words=("a",)),
        request("penalty", form, frequency_penalty=2.0, temperature=0),
        request("logprobs", form, logprobs=2),
        request("eos", form, ignore_eos=True),
        request("stop", StructuredOutputs(choice=("one two", "one ten")), stop=("t",)),
        request("nothing", form, allowed_token_ids=(token["a"] + 20,)),
    )
    assert outputs["bias", 0].text == outputs["bad", 0].text == "b" * 12
    assert sorted(outputs["penalty", 0].text) == list("a" * 6 + "b" * 6)
    records = outputs["logprobs", 0].logprobs
    assert records is not None
    assert len(records) == 12
    assert {len(record.top) for record in records} == {2}
    assert re.fullmatch("[ab]{12}", outputs["eos", 0].text)
    assert (outputs["stop", 0].text, outputs["stop", 0].stop_reason) == ("one ", "t")
    error = outputs["nothing", 0].error
    assert error is not None
    assert error.message.startswith("sampling parameters leave no token to choose from")
    assert not error.retryable


def test_the_end_of_text_comes_when_it_may_and_is_no_part_of_the_output() -> None:
    outputs = run(
        make_engine(), *(request(str(s), StructuredOutputs(regex="a+"), seed=s) for s in range(9))
    )
    for output in outputs.values():
        assert re.fullmatch("a+", output.text)
        assert output.finish_reason is FinishReason.STOP
        assert output.token_ids[-1] == EOS
        assert output.stop_reason is None


def test_a_matcher_at_fault_fails_its_row_alone() -> None:
    engine = make_engine()
    broken, good = StructuredOutputs(regex="a{40}"), StructuredOutputs(regex="a{40}b")
    run(engine, request("first", broken), request("second", good))  # both are compiled from now on
    engine.add(request("broken", broken))
    engine.add(request("good", good))
    while engine.num_running < 2:
        engine.step()
    for _ in range(3):
        assert engine.step() == []
    (sequence,) = engine._live["broken"]
    assert sequence.matcher is not None
    sequence.matcher.inner.consume_token(byte_level().encode("z")[0])  # pyright: ignore[reportIndexIssue]
    outputs = finish(engine)
    error = outputs["broken", 0].error
    assert error is not None
    assert (error.code, error.param) == ("grammar_error", "structured_outputs")
    assert outputs["good", 0].text == "a" * 40 + "b"


def test_masks_by_several_threads_are_those_by_one() -> None:
    tokenizer = byte_level()
    vocabularies = [
        GrammarVocabulary(tokenizer, vocab_size=263, eos_token_ids={EOS}, num_threads=threads)
        for threads in (1, 3)
    ]
    masks = []
    for vocabulary in vocabularies:
        grammar = vocabulary.compile(StructuredOutputs(regex="abc|acd|b+"))
        assert isinstance(grammar, Grammar)
        matchers = [grammar.begin() for _ in range(5)]
        for matcher, text in zip(matchers, ("", "a", "ab", "b", "abc"), strict=True):
            for token_id in tokenizer.encode(text):  # pyright: ignore[reportGeneralTypeIssues]
                matcher.advance(token_id)
        masks.append(torch.from_numpy(vocabulary.fill_masks([m.inner for m in matchers])))
    assert torch.equal(masks[0], masks[1])
    assert len({tuple(row) for row in masks[0].tolist()}) == 5
