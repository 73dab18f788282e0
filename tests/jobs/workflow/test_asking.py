"""What steps ask of each row, round by round, and what they make of the answers."""

import json
from typing import Any

import pytest

from penstock.jobs.model import EMBED
from penstock.jobs.vectors import pack
from penstock.jobs.workflow.asking import asking
from penstock.jobs.workflow.asks import Answer, Ask

from .planned import codes, column, plan_of, planned, rows_of, step_of
from .talks import SCORED, WORDS, answered, echo, failed, in_turn, keys, meta_of, said, talk

GENERATE = {"type": "generate", "prompt": "say {{ row.w }}"}


def test_each_row_is_asked_once_and_keeps_the_answer() -> None:
    found, rounds = answered(GENERATE, WORDS)
    assert keys(rounds) == [["0", "2"]]
    assert column(found, "s") == {"0": "<say red>", "1": None, "2": "<say blue>"}
    assert codes(found.faults) == {"1": "template_error"}
    assert meta_of(found, "0") == {
        "status": "succeeded",
        "finish_reason": "stop",
        "model": "m",
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "cached_tokens": 0,
        "attempts": 1,
        "error_code": None,
    }
    assert meta_of(found, "1")["status"] == "failed"
    assert meta_of(found, "1")["error_code"] == "template_error"


def test_messages_sampling_and_params_are_said() -> None:
    messages = [{"role": "system", "content": "Be {{ params.mood }}."}]
    messages.append({"role": "user", "content": "{{ row.w }}"})
    spec = step_of(type="generate", messages=messages)
    step = planned(spec, sampling={"temperature": 0.5, "max_tokens": 9, "stop": ["\n"]})
    found, rounds = talk(
        plan_of(step, params={"mood": "kind"}), step, WORDS[:1], lambda _: said("x")
    )
    (ask,) = rounds[0]
    seed = ask.body["seed"]
    assert ask.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "red"},
        ],
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["\n"],
        "seed": seed,
    }
    assert 0 <= seed < 2**63
    assert column(found, "s") == {"0": "x"}


def test_seeds_differ_by_row_sample_step_and_run_and_nothing_else() -> None:
    rows = rows_of({"w": "same"}, {"w": "same"})

    def seeds(step_id: str = "s", seed: int = 0, sampling: Any = None) -> list[int]:
        step = planned(step_of(**{**GENERATE, "id": step_id, "n": 2}), sampling=sampling)
        _, rounds = talk(plan_of(step), step, rows, echo, seed=seed)
        return [ask.body["seed"] for ask in rounds[0]]

    assert len({*seeds(), *seeds("t"), *seeds(seed=1)}) == 12
    assert seeds() == seeds()
    own = {"seed": 7}
    assert len({*seeds(sampling=own), *seeds()}) == 8
    assert seeds(sampling=own) == seeds(sampling=own, seed=1)  # the author's outranks the run's


def test_samples_become_children() -> None:
    found, rounds = answered({**GENERATE, "n": 3}, WORDS[:2])
    assert keys(rounds) == [["0/s#0", "0/s#1", "0/s#2"]]
    assert [row.row_id for row in found.rows] == ["0/s#0", "0/s#1", "0/s#2", "1/s#0"]
    assert codes(found.faults) == {"1/s#0": "template_error"}


def test_samples_are_made_until_one_decides() -> None:
    def model(ask: Ask) -> Answer:
        return said("yes" if ask.key in ("0/s#3", "2/s#0") else "no")

    fields = {**GENERATE, "n": 9, "until": "row.s == 'yes' and row.s__meta is null", "wave": 2}
    fields["until"] = "row.s == 'yes'"
    found, rounds = answered(fields, [WORDS[0], WORDS[2]], model)
    assert keys(rounds) == [["0/s#0", "0/s#1", "2/s#0", "2/s#1"], ["0/s#2", "0/s#3"]]
    assert [row.row_id for row in found.rows] == [
        *("0/s#0", "0/s#1", "0/s#2", "0/s#3"),
        *("2/s#0", "2/s#1"),
    ]


def test_where_none_decides_there_are_n() -> None:
    found, rounds = answered({**GENERATE, "n": 5, "until": "row.s + 1 > 2", "wave": 2}, WORDS[:1])
    assert [len(asks) for asks in rounds] == [2, 2, 1]
    assert len(found.rows) == 5
    assert found.faults == []


def test_a_fault_of_a_machine_is_asked_again_with_the_same_seed() -> None:
    model = in_turn(failed("engine_error", retryable=True), said("there"))
    found, rounds = answered({**GENERATE, "retries": {"transient": 2}}, WORDS[:1], model)
    assert keys(rounds) == [["0"], ["0~1"]]
    assert rounds[0][0].body == rounds[1][0].body
    assert column(found, "s") == {"0": "there"}
    assert meta_of(found, "0")["attempts"] == 2


def test_retries_end() -> None:
    model = in_turn(failed("engine_error", retryable=True))
    found, rounds = answered({**GENERATE, "retries": {"transient": 2}}, WORDS[:1], model)
    assert keys(rounds) == [["0"], ["0~1"], ["0~2"]]
    assert codes(found.faults) == {"0": "engine_error"}
    lasting = in_turn(failed("context_length_exceeded"))
    found, rounds = answered({**GENERATE, "retries": {"transient": 2}}, WORDS[:1], lasting)
    assert keys(rounds) == [["0"]]
    assert codes(found.faults) == {"0": "context_length_exceeded"}


DOCUMENT = {"type": "generate", "prompt": "score {{ row.w }}", "schema": SCORED}


def test_a_schema_is_in_force_at_once_where_it_is_not_retried() -> None:
    found, rounds = answered(DOCUMENT, WORDS[:1], lambda _: said('{"score": 3}'))
    form = rounds[0][0].body["response_format"]
    assert form["json_schema"]["schema"] == SCORED
    assert column(found, "s") == {"0": {"score": 3}}


def test_only_an_invalid_answer_is_asked_again_and_held_to_the_schema() -> None:
    rows = rows_of({"w": "red"}, {"w": "blue"})

    def model(ask: Ask) -> Answer:
        if "response_format" in ask.body:
            return said('{"score": 2}')
        return said(
            "three, I think" if "red" in ask.body["prompt"] else '```json\n{"score": 1}\n```'
        )

    found, rounds = answered({**DOCUMENT, "retries": {"invalid_output": 2}}, rows, model)
    assert keys(rounds) == [["0", "1"], ["0~1"]]
    assert "response_format" not in rounds[0][0].body
    assert "response_format" in rounds[1][0].body
    assert rounds[0][0].body["seed"] != rounds[1][0].body["seed"]
    assert column(found, "s") == {"0": {"score": 2}, "1": {"score": 1}}
    assert meta_of(found, "0")["prompt_tokens"] == 10


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (said("no document"), "invalid_output"),
        (said('{"score": 1e999}'), "invalid_output"),
        (said('{"score": 1, "score": 2}'), "invalid_output"),
        (Answer(text='{"score": 1', finish_reason="length"), "invalid_output"),
        (Answer(finish_reason="stop"), "invalid_output"),
        (said('{"score": "high"}'), "schema_violation"),
        (said("[]"), "schema_violation"),
    ],
)
def test_what_is_not_as_asked_fails_its_row(answer: Answer, code: str) -> None:
    found, _ = answered({**DOCUMENT, "retries": {"invalid_output": 1}}, WORDS[:1], lambda _: answer)
    assert codes(found.faults) == {"0": code}
    assert column(found, "s") == {"0": None}


def test_a_document_that_was_cut_off_says_so() -> None:
    cut = Answer(text='{"score": 1', finish_reason="length")
    found, _ = answered(DOCUMENT, WORDS[:1], lambda _: cut)
    assert "cut off at max_tokens" in found.faults[0].error.message


def test_choices_and_regex_are_held_to() -> None:
    fields = {"type": "generate", "prompt": "{{ row.w }}"}
    choices = {**fields, "choices": ["invoice", "other"]}
    found, rounds = answered(choices, WORDS[:1], lambda _: said(" invoice\n"))
    assert column(found, "s") == {"0": "invoice"}
    assert rounds[0][0].body["structured_outputs"] == {"choice": ["invoice", "other"]}
    found, _ = answered(choices, WORDS[:1], lambda _: said("neither"))
    assert codes(found.faults) == {"0": "invalid_output"}
    regex = {**fields, "regex": "[a-z]+", "retries": {"invalid_output": 3}}
    found, rounds = answered(regex, WORDS[:1], lambda _: said("abc"))
    assert rounds[0][0].body["structured_outputs"] == {"regex": "[a-z]+"}


def test_the_model_may_be_the_rows() -> None:
    rows = rows_of({"w": "x", "model": "a"}, {"w": "x", "model": "b"}, {"w": "x", "model": "c"})
    fields = {**GENERATE, "model": "{{ row.model }}"}
    found, rounds = answered(fields, rows, echo, models=("a", "b"))
    assert [(ask.model, ask.body["model"]) for ask in rounds[0]] == [("a", "a"), ("b", "b")]
    assert codes(found.faults) == {"2": "invalid_request"}


def test_a_row_that_had_failed_is_passed_through() -> None:
    failed_before = {"w": None, "w__meta": {"status": "failed"}, "v": 1}
    rows = rows_of(failed_before, {"w": "red", "w__meta": {"status": "succeeded"}, "v": 1})
    fields = {"type": "generate", "prompt": "{{ row.w | default('nothing', true) }}"}
    found, rounds = answered(fields, rows)
    assert keys(rounds) == [["1"]]
    assert column(found, "s") == {"0": None, "1": "<red>"}
    assert (meta_of(found, "0")["status"], meta_of(found, "0")["error_code"]) == (
        "skipped",
        "upstream_failed",
    )
    assert found.faults == []
    found, _ = answered({**fields, "n": 4}, rows[:1])
    assert [row.row_id for row in found.rows] == ["0/s#0"]
    found, rounds = answered({**fields, "prompt": "{{ row.v }}"}, rows)
    assert keys(rounds) == [["0", "1"]]  # it does not need what had failed


def test_policies_hold_for_answers() -> None:
    model = in_turn(failed("engine_error"))
    found, _ = answered({**GENERATE, "on_error": "drop"}, WORDS[:1], model)
    assert (found.rows, codes(found.faults)) == ([], {"0": "engine_error"})
    found, _ = answered({**GENERATE, "on_error": "default", "default": "?"}, WORDS[:1], model)
    assert column(found, "s") == {"0": "?"}
    assert meta_of(found, "0")["status"] == "failed"


def test_a_vector_is_kept_as_numbers() -> None:
    fields = {"type": "embed", "text": "{{ row.w }}", "dimensions": 2}
    found, rounds = answered(fields, WORDS, lambda _: Answer(vector=pack([0.5, -2.0])))
    assert [ask.url for ask in rounds[0]] == [EMBED, EMBED]
    assert rounds[0][0].body == {"model": "m", "input": "red", "dimensions": 2}
    assert column(found, "s") == {"0": [0.5, -2.0], "1": None, "2": [0.5, -2.0]}
    found, _ = answered(fields, WORDS[:1], lambda _: said("no vector"))
    assert codes(found.faults) == {"0": "engine_error"}


def test_rounds_follow_from_the_answers_alone() -> None:
    """Answers may come one by one, in any order, and to another process each time."""
    step = planned(step_of(**{**DOCUMENT, "n": 3, "retries": {"invalid_output": 1}}))
    rows, plan = [WORDS[0], WORDS[2]], plan_of(step)

    def model(ask: Ask) -> Answer:
        is_valid = "~" in ask.key or ask.body["seed"] % 3
        return said(json.dumps({"score": ask.body["seed"] % 5}) if is_valid else "?")

    at_once, _ = talk(plan, step, rows, model)
    answers: dict[str, Answer] = {}
    while isinstance(found := asking.proceed(plan, step, rows, answers), list):
        answers[found[-1].key] = model(found[-1])
    assert found == at_once
