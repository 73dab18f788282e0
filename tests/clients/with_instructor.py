"""Instructor, told nothing but where the server is: all else is as its manual has it."""

# pyright: reportMissingImports=false
# The clients live in an environment of their own, which the type checker does not see.

import asyncio
from typing import Any, Literal

import instructor
import openai
import pytest
from instructor import Mode
from instructor.core import InstructorRetryException
from pydantic import BaseModel, Field

MODEL = "penstock-demo"


class Order(BaseModel):
    """What somebody wants to buy."""

    customer: str
    quantity: int = Field(ge=0, le=999)
    city: Literal["Paris", "Oslo"]


ASK: Any = {
    "messages": [{"role": "user", "content": "Ann of Oslo would like 3 chairs."}],
    "response_model": Order,
    "temperature": 0,
    "max_tokens": 200,
}


def client(mode: Mode) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(max_retries=0), mode=mode)


def create(mode: Mode, **options: Any) -> Any:
    return client(mode).create(**{"model": MODEL, "max_retries": 0, **ASK, **options})


def test_as_its_manual_begins() -> None:
    maker = instructor.from_provider(f"openai/{MODEL}")
    assert isinstance(maker.create(**ASK, max_retries=0), Order)


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON_SCHEMA, Mode.RESPONSES_TOOLS])
def test_a_model_is_filled_at_the_first_try(mode: Mode) -> None:
    assert isinstance(create(mode), Order)


def test_the_whole_answer_comes_beside_it() -> None:
    order, answer = client(Mode.JSON_SCHEMA).create_with_completion(model=MODEL, **ASK)
    text = answer.choices[0].message.content
    assert order.model_dump_json() == Order.model_validate_json(text).model_dump_json()
    assert answer.usage.completion_tokens > 0


def test_it_grows_while_it_is_streamed() -> None:
    grown = list(client(Mode.JSON_SCHEMA).create_partial(model=MODEL, **ASK))
    assert len(grown) > 2
    assert grown[0].city is None
    assert Order.model_validate(grown[-1].model_dump())


def test_calls_are_streamed_too() -> None:
    *_, last = client(Mode.TOOLS).create_partial(model=MODEL, **ASK)
    assert Order.model_validate(last.model_dump())


def test_async() -> None:
    async def walk() -> list[Any]:
        async with openai.AsyncOpenAI() as plain:
            maker = instructor.from_openai(plain, mode=Mode.JSON_SCHEMA)
            return await asyncio.gather(*[maker.create(model=MODEL, **ASK) for _ in range(4)])

    wanted = create(Mode.JSON_SCHEMA).model_dump()
    assert [order.model_dump() for order in asyncio.run(walk())] == [wanted] * 4


def test_a_wrong_key_is_told() -> None:
    with openai.OpenAI(api_key="wrong") as stranger:
        maker = instructor.from_openai(stranger, mode=Mode.TOOLS)
        with pytest.raises(InstructorRetryException, match="Incorrect API key"):
            maker.create(model=MODEL, max_retries=0, **ASK)


def test_a_fault_that_is_not_the_models_is_told() -> None:
    with pytest.raises(InstructorRetryException, match="not served here"):
        create(Mode.TOOLS, model="no-such-model")
