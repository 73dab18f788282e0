"""What steps ask, round by round, and what they make of answers. The model is a function."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from penstock.jobs.model import EMBED, RequestError, SamplingParams, TaskSpec
from penstock.jobs.row_request import RowRequest, row_request
from penstock.jobs.vectors import pack
from penstock.jobs.workflow import asking
from penstock.jobs.workflow.asks import Answer, Ask
from penstock.jobs.workflow.plan import GROUPS, ROWS, Plan, PlannedStep
from penstock.jobs.workflow.row import Applied, Row
from penstock.jobs.workflow.tools import NO_TOOLS, MissingTool, Tools

from .planned import codes, column, plan_of, planned, rows_of, step_of

Model = Callable[[Ask], Answer]
Rounds = list[list[Ask]]

WORDS = rows_of({"w": "red"}, {"w": None}, {"w": "blue"})
SCORED = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
}


def said(text: str, **more: Any) -> Answer:
    return Answer(text=text, finish_reason="stop", prompt_tokens=5, completion_tokens=2, **more)


def echo(ask: Ask) -> Answer:
    return said(f"<{ask.body['prompt']}>")


def failed(code: str, *, retryable: bool = False) -> Answer:
    return Answer(error=RequestError(code, "lost", retryable=retryable))


def in_turn(*answers: Answer) -> Model:
    """Answer each key's tries one after the other."""
    tries: dict[str, int] = {}

    def model(ask: Ask) -> Answer:
        key = ask.key.partition("~")[0]
        tries[key] = tries.get(key, 0) + 1
        return answers[min(tries[key], len(answers)) - 1]

    return model


def talk(
    plan: Plan,
    step: PlannedStep,
    rows: list[Row],
    model: Model,
    *,
    seed: int = 0,
    tools: Tools = NO_TOOLS,
) -> tuple[Applied, Rounds]:
    """Ask until nothing is left to ask; every request is one that a bulk job takes."""
    answers: dict[str, Answer] = {}
    rounds: Rounds = []
    while asks := asking.next_round(plan, step, rows, answers, seed=seed, tools=tools).asks:
        assert len(rounds) < 20
        rounds.append(asks)
        assert len({ask.key for ask in asks}) == len(asks)
        for ask in asks:
            assert ask.key not in answers
            _check_request(ask)
            answers[ask.key] = model(ask)
    return asking.settle(plan, step, rows, answers, tools=tools), rounds


def _check_request(ask: Ask) -> None:
    endpoint = EMBED if ask.url == EMBED else None
    row = {"body": dict(ask.body), "url": ask.url}
    request = row_request(TaskSpec(ask.model, endpoint=endpoint), SamplingParams(), row)
    assert isinstance(request, RowRequest), request


def answered(
    fields: Mapping[str, Any], rows: list[Row], model: Model = echo, **more: Any
) -> tuple[Applied, Rounds]:
    step = planned(step_of(**fields), **more)
    return talk(plan_of(step), step, rows, model)


def keys(rounds: Sequence[Sequence[Ask]]) -> list[list[str]]:
    return [[ask.key for ask in asks] for asks in rounds]


def meta_of(found: Applied, row_id: str) -> dict[str, Any]:
    return next(row.values["s__meta"] for row in found.rows if row.row_id == row_id)


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


def test_a_vector_is_kept_as_numbers() -> None:
    fields = {"type": "embed", "text": "{{ row.w }}", "dimensions": 2}
    found, rounds = answered(fields, WORDS, lambda _: Answer(vector=pack([0.5, -2.0])))
    assert [ask.url for ask in rounds[0]] == [EMBED, EMBED]
    assert rounds[0][0].body == {"model": "m", "input": "red", "dimensions": 2}
    assert column(found, "s") == {"0": [0.5, -2.0], "1": None, "2": [0.5, -2.0]}


def groups(*lists: Sequence[str], **fold: int) -> tuple[Plan, PlannedStep, list[Row]]:
    """Plan a reduce over the column `part`, with groups as its other half brings them."""
    prompt = "{{ row.q }}:{% for r in rows %} {{ r.part }}{% endfor %}"
    spec = step_of(type="reduce", prompt=prompt, **({"fold": fold} if fold else {}))
    before = planned(step_of(id="part", type="generate", prompt="x"), ["q", "part"], kind="ask")
    own = planned(spec, ["q", ROWS], id=f"s{GROUPS}", sources=("part",), is_internal=True)
    step = planned(spec, ["q", "s", "s__meta"], kind="ask", sources=(f"s{GROUPS}",))
    rows = [
        Row(str(index), {"q": "merge", ROWS: [{"part": part} for part in parts]})
        for index, parts in enumerate(lists)
    ]
    return plan_of(before, own, step), step, rows


def test_a_group_is_one_prompt() -> None:
    plan, step, rows = groups(["a", "b"], ["c"])
    found, rounds = talk(plan, step, rows, echo)
    assert [ask.body["prompt"] for ask in rounds[0]] == ["merge: a b", "merge: c"]
    assert column(found, "s") == {"0": "<merge: a b>", "1": "<merge: c>"}
    assert found.rows[0].values.keys() == {"q", "s", "s__meta"}


def short(ask: Ask) -> Answer:
    """Answer with the first letters of what is merged."""
    return said("".join(word[0] for word in ask.body["prompt"].split()[1:]))


def test_a_large_group_is_merged_in_rounds() -> None:
    plan, step, rows = groups("abcdefghijk", "xy", max_rows=3)
    found, rounds = talk(plan, step, rows, short)
    assert [[ask.body["prompt"].removeprefix("merge: ") for ask in asks] for asks in rounds] == [
        ["a b c", "d e f", "g h i", "j k", "x y"],
        ["abc def ghi"],
        ["adg jk"],
    ]
    assert keys(rounds) == [["0:0.0", "0:0.1", "0:0.2", "0:0.3", "1"], ["0:1.0"], ["0"]]
    assert column(found, "s") == {"0": "aj", "1": "xy"}
    assert meta_of(found, "0")["attempts"] == 6


def test_a_chunk_holds_as_many_tokens_as_it_may() -> None:
    tools = Tools(lambda text, _: range(4 * len(text.split())))
    plan, step, rows = groups(["a", "b c d e f g", "h", "i", "j", "k"], max_tokens=20)
    _, rounds = talk(plan, step, rows, short, tools=tools)
    assert [ask.body["prompt"].removeprefix("merge: ") for ask in rounds[0]] == [
        "a b c d e f g",  # two rows at least, or there would be no end
        "h i j k",
    ]
    plan, step, rows = groups(["a", "b"], max_tokens=16)
    with pytest.raises(MissingTool):
        talk(plan, step, rows, short)


def test_a_chunk_that_fails_fails_its_group_alone() -> None:
    def model(ask: Ask) -> Answer:
        return failed("engine_error") if " c" in ask.body["prompt"] else short(ask)

    plan, step, rows = groups("abcd", "wxyz", max_rows=2)
    found, _ = talk(plan, step, rows, model)
    assert codes(found.faults) == {"0": "engine_error"}
    assert column(found, "s") == {"0": None, "1": "wy"}


def test_rounds_follow_from_the_answers_alone() -> None:
    """Answers may come one by one, in any order, and to another process each time."""
    step = planned(step_of(**{**DOCUMENT, "n": 3, "retries": {"invalid_output": 1}}))
    rows, plan = [WORDS[0], WORDS[2]], plan_of(step)

    def model(ask: Ask) -> Answer:
        is_valid = "~" in ask.key or ask.body["seed"] % 3
        return said(json.dumps({"score": ask.body["seed"] % 5}) if is_valid else "?")

    at_once, _ = talk(plan, step, rows, model)
    answers: dict[str, Answer] = {}
    while asks := asking.next_round(plan, step, rows, answers).asks:
        answers[asks[-1].key] = model(asks[-1])
    assert asking.settle(plan, step, rows, answers) == at_once


def test_what_is_still_to_be_asked_cannot_be_settled() -> None:
    step = planned(step_of(**GENERATE))
    with pytest.raises(ValueError, match="still asks 0"):
        asking.settle(plan_of(step), step, WORDS, {})
