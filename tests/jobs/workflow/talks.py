"""A step asks and a model that is a function answers, round by round, until nothing is asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.jobs.model import EMBED, RequestError, SamplingParams, TaskSpec
from penstock.jobs.row_request import RowRequest, row_request
from penstock.jobs.workflow.asking import asking
from penstock.jobs.workflow.asks import Answer, Ask
from penstock.jobs.workflow.plan import Plan, PlannedStep
from penstock.jobs.workflow.row import Applied, Row
from penstock.jobs.workflow.tools import NO_TOOLS, Tools

from .planned import plan_of, planned, rows_of, step_of

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
    while True:
        found = asking.proceed(plan, step, rows, answers, seed=seed, tools=tools)
        if isinstance(found, Applied):
            return found, rounds
        assert len(rounds) < 20
        rounds.append(found)
        assert len({ask.key for ask in found}) == len(found)
        for ask in found:
            assert ask.key not in answers
            _check_request(ask)
            answers[ask.key] = model(ask)


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
