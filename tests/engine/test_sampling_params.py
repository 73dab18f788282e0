"""Sampling parameters are checked once, by name, and survive the trip through JSON."""

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from penstock.engine.sampling_params import (
    InvalidSampling,
    RepetitionDetection,
    SamplingParams,
    StructuredOutputs,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1}, "temperature must be from 0 to 2, got -1"),
        ({"temperature": float("nan")}, "temperature must be finite, got nan"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ({"temperature": True}, "temperature must be a number, got True"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_k": -2}, "top_k must be at least 0, got -2"),
        ({"min_p": 1.5}, "min_p must be from 0 to 1, got 1.5"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": 1000}, "n must be at most 128, got 1000"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": 2.5}, "max_tokens must be an integer, got 2.5"),
        ({"max_tokens": 4, "min_tokens": 5}, "min_tokens must not exceed max_tokens=4, got 5"),
        ({"stop": [""]}, "stop must hold non-empty strings, got ''"),
        ({"stop": ["x"] * 17}, "stop takes at most 16 strings, got 17"),
        ({"stop_token_ids": [-1]}, "stop_token_ids must be at least 0, got -1"),
        ({"logprobs": 21}, "logprobs must be at most 20, got 21"),
        ({"top_k": 2**70}, "top_k must be at most 2147483647, got 1180591620717411303424"),
        (
            {"min_tokens": 2**31, "max_tokens": None},
            "min_tokens must be at most 2147483647, got 2147483648",
        ),
        ({"max_tokens": 2**63}, f"max_tokens must be at most {2**63 - 1}, got {2**63}"),
        ({"stop_token_ids": [2**31]}, "stop_token_ids must be at most 2147483647, got 2147483648"),
        (
            {"allowed_token_ids": [2**64]},
            f"allowed_token_ids must be at most 2147483647, got {2**64}",
        ),
        (
            {"logit_bias": {"9" * 18: 1}},
            f"logit_bias.{'9' * 18} must be at most 2147483647, got {'9' * 18}",
        ),
        (
            {"repetition_detection": {"max_pattern_size": 2, "min_count": 2**64}},
            "repetition_detection.min_count must be at most 2147483647, got 18446744073709551616",
        ),
        ({"seed": 2**63}, f"seed must be at most {2**63 - 1}, got {2**63}"),
        ({"repetition_penalty": 0}, "repetition_penalty must be from 0.01 to 10, got 0"),
        ({"repetition_penalty": 1e-3}, "repetition_penalty must be from 0.01 to 10, got 0.001"),
        ({"temperature": 10**400}, f"temperature must be from 0 to 2, got 1{'0' * 36}..."),
        ({"n": 10**5000}, "n must be at most 128, got a number too long to show"),
        ({"stop": 5}, "stop must be a list, got 5"),
        ({"stop": 0}, "stop must be a list, got 0"),
        ({"stop": {"a": 1}}, "stop must be a list, got {'a': 1}"),
        ({"stop_token_ids": 5}, "stop_token_ids must be a list, got 5"),
        ({"stop_token_ids": "56"}, "stop_token_ids must be a list, got '56'"),
        ({"ignore_eos": "yes"}, "ignore_eos must be true or false, got 'yes'"),
        ({"prompt_logprobs": -1}, "prompt_logprobs must be at least 0, got -1"),
        ({"prompt_logprobs": 21}, "prompt_logprobs must be at most 20, got 21"),
        ({"logit_bias": [1]}, "logit_bias must map token ids to numbers, got [1]"),
        ({"logit_bias": {"x": 1}}, "logit_bias must have token ids as keys, got 'x'"),
        ({"logit_bias": {-1: 1}}, "logit_bias.-1 must be at least 0, got -1"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5 must be from -100 to 100, got 101"),
        ({"logit_bias": {"5": None}}, "logit_bias.5 must be a number, got None"),
        ({"logit_bias": {"5": 1, 5: 2}}, "logit_bias must name each token once, got 5 twice"),
        (
            {"logit_bias": dict.fromkeys(range(1025), 1)},
            "logit_bias takes at most 1024 tokens, got 1025",
        ),
        ({"bad_words": "no"}, "bad_words must be a list, got 'no'"),
        ({"bad_words": [""]}, "bad_words must hold non-empty strings, got ''"),
        ({"bad_words": [" "]}, "bad_words must hold more than spaces, got ' '"),
        ({"allowed_token_ids": []}, f"allowed_token_ids takes from 1 to {1 << 20} tokens, got 0"),
        ({"allowed_token_ids": [1, -1]}, "allowed_token_ids must be at least 0, got -1"),
        (
            {"structured_outputs": {}},
            "structured_outputs must have exactly one of json, regex, choice, grammar, "
            "json_object, got none",
        ),
        (
            {"structured_outputs": {"regex": "a", "json": {}}},
            "structured_outputs must have exactly one of json, regex, choice, grammar, "
            "json_object, got json and regex",
        ),
        (
            {"structured_outputs": "json"},
            "structured_outputs must be an object with one of json, regex, choice, grammar, "
            "json_object, got 'json'",
        ),
        (
            {"structured_outputs": {"json": "[1]"}},
            "structured_outputs must have a JSON Schema, an object, as json, got '[1]'",
        ),
        (
            {"structured_outputs": {"json": "{"}},
            "structured_outputs must have a JSON Schema as json: Expecting property name enclosed "
            "in double quotes: line 1 column 2 (char 1)",
        ),
        (
            {"structured_outputs": {"choice": []}},
            "structured_outputs must name at least one text in choice, got none",
        ),
        (
            {"structured_outputs": {"choice": ["a", 1]}},
            "structured_outputs.choice must hold non-empty strings, got 1",
        ),
        (
            {"structured_outputs": {"regex": 5}},
            "structured_outputs must have a non-empty string as regex, got 5",
        ),
        (
            {"structured_outputs": {"regex": "a" * (1 << 19)}},
            f"structured_outputs takes at most {1 << 18} characters, got {1 << 19}",
        ),
        (
            {"structured_outputs": {"json_object": 1}},
            "structured_outputs.json_object must be true or false, got 1",
        ),
        (
            {"repetition_detection": {"max_pattern_size": 4}},
            "repetition_detection.min_count must be at least 2, got 0",
        ),
        (
            {"repetition_detection": {"max_pattern_size": 4, "min_pattern_size": 5}},
            "repetition_detection must have a min_pattern_size of at most max_pattern_size=4, "
            "got 5",
        ),
        (
            {"repetition_detection": {"pattern": 4}},
            "repetition_detection has no field 'pattern'; known: max_pattern_size, "
            "min_pattern_size, min_count",
        ),
        ({"repetition_detection": 4}, "repetition_detection must be an object, got 4"),
        ({"seed": "a" * 99}, f"seed must be an integer, got '{'a' * 36}..."),
    ],
)
def test_a_bad_value_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSampling) as caught:
        SamplingParams(**values)
    assert str(caught.value) == message
    assert caught.value.param in values


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidSampling, match=r"tempreture is not a sampling parameter; known: "):
        SamplingParams.from_mapping({"tempreture": 1})


def test_spellings_of_stop_and_top_k_are_brought_together() -> None:
    spelling: Any = "END"  # typed as a tuple, which these are brought to
    assert SamplingParams(stop=spelling).stop == ("END",)
    assert SamplingParams(top_k=-1).top_k == 0
    spelling = None
    assert SamplingParams(stop=spelling).stop == ()


def test_a_tiny_temperature_is_greedy() -> None:
    assert SamplingParams(temperature=0).is_greedy
    assert SamplingParams(temperature=1e-6).is_greedy
    assert not SamplingParams(temperature=0.1).is_greedy


FORMS = [
    StructuredOutputs(json={"type": "object", "properties": {"b": {}, "a": {"const": "\u6c34"}}}),
    StructuredOutputs(json='{"enum": [1]}', whitespace_pattern=" ?"),
    StructuredOutputs(json_object=True, disable_any_whitespace=True),
    StructuredOutputs(regex="a+"),
    StructuredOutputs(choice=("yes", "no")),
    StructuredOutputs(grammar='start: "a"'),
]


@settings(deadline=None, derandomize=True)
@given(
    n=st.integers(1, 128),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(st.text(min_size=1), max_size=16),
    max_tokens=st.none() | st.integers(1, 10**6),
    logprobs=st.none() | st.integers(0, 20),
    prompt_logprobs=st.none() | st.integers(0, 20),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 10**6), st.floats(-100, 100), max_size=4),
    bad_words=st.lists(st.text(min_size=1).filter(str.strip), max_size=4),
    allowed_token_ids=st.none() | st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    structured_outputs=st.none() | st.sampled_from(FORMS),
    repetition_detection=st.none()
    | st.builds(RepetitionDetection, max_pattern_size=st.just(9), min_count=st.integers(2, 9)),
)
def test_params_survive_json(**values: Any) -> None:
    params = SamplingParams(**values)
    assert SamplingParams.from_mapping(json.loads(json.dumps(params.to_mapping()))) == params


NUMBERS = st.integers() | st.sampled_from([10**400, -(10**400)]) | st.floats()
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=3)
JSON = st.recursive(
    PLAIN, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3)
)
NAMES = [field.name for field in fields(SamplingParams)]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3))
def test_any_value_is_valid_or_named(values: dict[str, Any]) -> None:
    try:
        params = SamplingParams.from_mapping(values)
    except InvalidSampling as error:
        assert error.param in values
    else:
        assert SamplingParams.from_mapping(params.to_mapping()) == params


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    schema = {"properties": {"b": {}, "a": {}}}
    of_object = StructuredOutputs(json=schema)
    assert of_object == StructuredOutputs(json=json.dumps(schema, indent=1))
    assert list(json.loads(str(of_object.json))["properties"]) == ["b", "a"]
    swapped = {"properties": {"a": {}, "b": {}}}
    assert StructuredOutputs(json=swapped) != of_object
    nest: dict[str, Any] = {}
    for _ in range(100_000):
        nest = {"not": nest}
    with pytest.raises(InvalidSampling, match="JSON Schema of fewer levels"):
        StructuredOutputs(json=nest)


def test_params_may_be_hashed_and_do_not_share_what_they_were_given() -> None:
    bias = {"7": 1}
    params = SamplingParams.from_mapping({"logit_bias": bias, "structured_outputs": {"regex": "a"}})
    bias["7"] = 2
    assert params.logit_bias == {7: 1}
    assert hash(params) == hash(SamplingParams.from_mapping(params.to_mapping()))
    assert SamplingParams(logit_bias={}).logit_bias is None


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 1, 2, 1, 2], True),
        ([9, 1, 2, 1, 2, 1, 2], True),
        ([2, 1, 2, 1, 2], False),  # two and a half times
        ([1, 2, 1, 3, 1, 2], False),
        ([5, 5, 5], True),
        ([1, 2, 3, 4] * 3, False),  # longer than what is looked for
        ([], False),
    ],
)
def test_a_pattern_is_found_at_the_end_only_and_in_the_output_only(
    tokens: list[int], expected: bool
) -> None:
    detection = RepetitionDetection(max_pattern_size=3, min_count=3)
    assert detection.is_met_by(tokens, len(tokens)) == expected
    assert not detection.is_met_by([*tokens, 7], len(tokens) + 1)
    if tokens:
        assert not detection.is_met_by(tokens, 2), "the rest is prompt"
    assert not RepetitionDetection().is_met_by([5] * 99, 99)


def test_a_pattern_may_have_a_least_size() -> None:
    detection = RepetitionDetection(max_pattern_size=4, min_pattern_size=2, min_count=2)
    assert not detection.is_met_by([1, 2, 5, 5], 4)
    assert detection.is_met_by([1, 2, 1, 2], 4)
