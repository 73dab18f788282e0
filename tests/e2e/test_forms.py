"""Answers with a form, from the real engine: extraction into typed columns, forced calls."""

import json
from itertools import islice
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from penstock import Client
from penstock.api import demo_tasks

from .stack import Stack

MODEL = "penstock-demo"


class Order(BaseModel):
    customer: str
    quantity: int = Field(ge=0, le=999)
    item: str
    city: str


class Call(BaseModel):
    city: Literal["Paris", "Oslo"]


CALL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": Call.model_json_schema()},
}


@pytest.fixture
def chats(stack: Stack) -> Any:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client.chat.completions


def test_extraction_fills_typed_columns(stack: Stack) -> None:
    tasks = list(islice(demo_tasks.generate(5, "heldout", ("extract",)), 16))
    with Client(stack.url) as client:
        job = client.jobs.submit(
            [{"ask": task.prompt} for task in tasks],
            prompt="{{ row.ask }}",
            schema=Order,
            sampling={"temperature": 0, "max_tokens": 64},
        ).wait(timeout_s=240)
        rows = list(job.results())
    assert [row.error for row in rows] == [None] * len(tasks)
    assert all(isinstance(row.parsed, Order) for row in rows)
    truths = [json.loads(task.answer or "") for task in tasks]
    right = [row["parsed"] == truth for row, truth in zip(rows, truths, strict=True)]
    assert sum(right) >= len(tasks) // 2  # the form does not stand in the model's way


def test_an_impossible_schema_is_its_rows_fault_alone(stack: Stack) -> None:
    def body(schema: dict[str, Any]) -> dict[str, Any]:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        messages = [{"role": "user", "content": "Add 12 and 30."}]
        return {"messages": messages, "response_format": form, "temperature": 0}

    good = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    bad = {"type": "string", "pattern": "(["}
    with Client(stack.url) as client:
        job = client.jobs.submit([{"body": body(good)}, {"body": body(bad)}, {"body": body(good)}])
        first, second, third = job.wait(timeout_s=240).results()
    assert first.parsed["a"] in (1, 2)
    assert third.parsed["a"] in (1, 2)
    assert second.error is not None
    assert second.error["param"] == "structured_outputs"
    assert job.counts.failed == 1


NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_that_must_come_comes(chats: Any, choice: Any) -> None:
    options = {"model": MODEL, "tools": [CALL], "tool_choice": choice, "temperature": 0}
    ask = [{"role": "user", "content": "How is the weather in Oslo?"}]
    answer = chats.create(messages=ask, parallel_tool_calls=False, **options)
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert Call.model_validate_json(call.function.arguments)
    assert choice.message.content is None
    with chats.stream(messages=ask, parallel_tool_calls=False, **options) as stream:
        final = stream.get_final_completion()
    [streamed] = final.choices[0].message.tool_calls
    assert streamed.function.arguments == call.function.arguments


def test_tools_the_model_knows_nothing_of_are_refused(chats: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chats.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], tools=[CALL])
    assert caught.value.param == "tools"


def test_a_chat_is_parsed_into_a_model(chats: Any) -> None:
    answer = chats.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Oslo?"}],
        response_format=Call,
        temperature=0,
    )
    assert answer.choices[0].message.parsed.city in ("Paris", "Oslo")
