"""Sampling parameters are checked once, by name, and survive the trip through JSON."""

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from penstock.engine.sampling_params import InvalidSampling, SamplingParams


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
    assert SamplingParams(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert SamplingParams(top_k=-1).top_k == 0
    assert SamplingParams(stop=None).stop == ()  # type: ignore[arg-type]


def test_a_tiny_temperature_is_greedy() -> None:
    assert SamplingParams(temperature=0).is_greedy
    assert SamplingParams(temperature=1e-6).is_greedy
    assert not SamplingParams(temperature=0.1).is_greedy


@given(
    n=st.integers(1, 128),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(st.text(min_size=1), max_size=16),
    max_tokens=st.none() | st.integers(1, 10**6),
    logprobs=st.none() | st.integers(0, 20),
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
