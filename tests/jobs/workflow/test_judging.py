"""Judges: documents, numbers, and pairs that are shown in both orders."""

import json

import pytest

from penstock.jobs.workflow.asks import Answer, Ask

from .planned import codes, column, rows_of
from .talks import WORDS, Model, answered, failed, in_turn, keys, meta_of, said


def test_a_judge_gives_a_document() -> None:
    fields = {"type": "judge", "prompt": "rate {{ row.w }}"}
    found, rounds = answered(fields, WORDS[:1], lambda _: said('{"score": 4, "reason": "ok"}'))
    assert column(found, "s") == {"0": {"score": 4, "reason": "ok"}}
    schema = rounds[0][0].body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["score", "reason"]


@pytest.mark.parametrize(("text", "value"), [("-1.5e1", -15.0), ("Score: 7/10", 7.0), (".5", 0.5)])
def test_a_reward_is_the_number_in_the_answer(text: str, value: float) -> None:
    fields = {"type": "judge", "mode": "reward", "prompt": "{{ row.w }}"}
    found, _ = answered(fields, WORDS[:1], lambda _: said(text))
    assert column(found, "s") == {"0": {"value": value}}
    found, _ = answered(fields, WORDS[:1], lambda _: said("good"))
    assert codes(found.faults) == {"0": "invalid_output"}


PAIRWISE = {
    "type": "judge",
    "mode": "pairwise",
    "prompt": "Which tells more of {{ row.w }}?",
    "candidates": ["row.a", "row.b"],
}
PAIR = rows_of({"w": "red", "a": "apples", "b": {"bricks": 2}})


def prefers(word: str) -> Model:
    def model(ask: Ask) -> Answer:
        prompt = ask.body["prompt"]
        first, second = prompt.index("First:"), prompt.index("Second:")
        return said("first" if first < prompt.index(word) < second else "second")

    return model


@pytest.mark.parametrize(
    ("model", "winner"),
    [
        (prefers("apples"), "first"),
        (prefers("bricks"), "second"),
        (lambda _: said("first"), "tie"),  # whatever comes first
        (lambda _: said("tie"), "tie"),
        (in_turn(said("second")), "tie"),
    ],
)
def test_a_pair_is_judged_in_both_orders(model: Model, winner: str) -> None:
    found, rounds = answered(PAIRWISE, PAIR, model)
    assert keys(rounds) == [["0:ab", "0:ba"]]
    assert column(found, "s") == {"0": {"winner": winner}}
    assert meta_of(found, "0")["prompt_tokens"] == 10


def test_a_pair_with_a_document_and_one_that_fails() -> None:
    schema = {"type": "object", "properties": {"winner": {"type": "string"}}}

    def model(ask: Ask) -> Answer:
        winner = json.loads('"first"' if ask.key.endswith("ab") else '"second"')
        return said(json.dumps({"winner": winner, "reason": ask.key}))

    found, _ = answered({**PAIRWISE, "schema": schema}, PAIR, model)
    assert column(found, "s") == {"0": {"winner": "first", "reason": "0:ab"}}
    half = in_turn(failed("engine_error"))
    found, _ = answered(PAIRWISE, PAIR, half)
    assert codes(found.faults) == {"0": "engine_error"}
    found, rounds = answered(PAIRWISE, rows_of({"w": "x", "a": None, "b": "y"}))
    assert (rounds, codes(found.faults)) == ([], {"0": "template_error"})


def test_a_pair_stands_behind_the_last_message() -> None:
    messages = [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "Of {{ row.w }}:"},
    ]
    fields = {name: value for name, value in PAIRWISE.items() if name != "prompt"}
    found, rounds = answered({**fields, "messages": messages}, PAIR, lambda _: said("tie"))
    system, user = rounds[0][1].body["messages"]
    assert system["content"] == "Be fair."
    assert user["content"].startswith('Of red:\n\nFirst:\n{"bricks": 2}\n\nSecond:\napples\n')
    assert column(found, "s") == {"0": {"winner": "tie"}}
