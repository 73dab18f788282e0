"""What requests may tell the model's chat template."""

import pytest

from penstock.jobs.model import InvalidSampling
from penstock.jobs.template_options import MAX_OPTIONS, MAX_TEXT_CHARS, template_options_of


def test_switches_pass_as_they_are() -> None:
    switches = {"enable_thinking": False, "effort": "low", "depth": 2, "share": 0.5, "none": None}
    assert template_options_of(switches) == switches
    assert template_options_of(None) == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["enable_thinking"], "must be an object, got list"),
        ({"messages": []}, "must not set messages"),
        ({"chat_template": "{{ 1 }}"}, "must not set chat_template"),
        ({"tokenize": False}, "must not set tokenize"),
        ({"bos_token": "x"}, "must not set bos_token"),
        ({"__class__": 1}, "no name of a switch"),
        ({"Effort": 1}, "no name of a switch"),
        ({"effort": {"deep": 1}}, "effort must be true"),
        ({"effort": [1]}, "effort must be true"),
        ({"effort": float("inf")}, "effort must be true"),
        ({"effort": "x" * (MAX_TEXT_CHARS + 1)}, "effort must be true"),
        ({f"s{n}": n for n in range(MAX_OPTIONS + 1)}, "at most 16 switches, got 17"),
    ],
)
def test_all_else_is_refused_by_name(given: object, told: str) -> None:
    with pytest.raises(InvalidSampling, match=told) as refusal:
        template_options_of(given)
    assert refusal.value.param == "chat_template_kwargs"
