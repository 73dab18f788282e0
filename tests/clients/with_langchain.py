"""LangChain's client, told nothing but where the server is: all else is as its manual has it."""

# pyright: reportMissingImports=false
# The clients live in an environment of their own, which the type checker does not see.

import asyncio
from typing import Literal

import openai
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

MODEL = "penstock-demo"
SUM = "Add 12 and 30."


class GetWeather(BaseModel):
    """Look at the sky over a city."""

    city: Literal["Paris", "Oslo"]


@pytest.fixture
def chat() -> ChatOpenAI:
    return ChatOpenAI(model=MODEL, temperature=0, max_retries=0)


def test_a_chat_and_what_it_took(chat: ChatOpenAI) -> None:
    answer = chat.invoke(SUM)
    assert answer.content == "42"
    assert answer.response_metadata["finish_reason"] == "stop"
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_roles_and_earlier_turns(chat: ChatOpenAI) -> None:
    said = [("system", "Be brief."), ("human", SUM), ("ai", "42"), ("human", "Add 1 and 1.")]
    assert chat.invoke(said).response_metadata["finish_reason"] == "stop"


def test_a_stream_is_the_chat_in_pieces(chat: ChatOpenAI) -> None:
    pieces = list(chat.stream(SUM, stream_usage=True))
    assert len(pieces) > 2
    whole = sum(pieces[1:], start=pieces[0])
    assert whole.content == "42"
    assert whole.usage_metadata["output_tokens"] > 0


def test_a_batch_keeps_its_order(chat: ChatOpenAI) -> None:
    asked = [f"Add {number} and 30." for number in (12, 15, 20, 12)]
    answers = [answer.content for answer in chat.batch(asked)]
    assert answers == [chat.invoke(ask).content for ask in asked]


def test_async(chat: ChatOpenAI) -> None:
    async def walk() -> tuple[str, str]:
        whole, pieces = await asyncio.gather(chat.ainvoke(SUM), _gather())
        return whole.content, pieces

    async def _gather() -> str:
        return "".join([piece.content async for piece in chat.astream(SUM)])

    assert asyncio.run(walk()) == ("42", "42")


def test_tools(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([GetWeather], tool_choice="any", parallel_tool_calls=False)
    [call] = bound.invoke("How is the weather in Oslo?").tool_calls
    assert call["name"] == "GetWeather"
    assert GetWeather.model_validate(call["args"])
    pieces = list(bound.stream("How is the weather in Oslo?"))
    assert sum(pieces[1:], start=pieces[0]).tool_calls[0]["args"] == call["args"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: ChatOpenAI, method: str) -> None:
    form = chat.with_structured_output(GetWeather, method=method)
    assert isinstance(form.invoke("How is the weather in Oslo?"), GetWeather)


def test_logprobs(chat: ChatOpenAI) -> None:
    answer = chat.bind(logprobs=True, top_logprobs=2).invoke(SUM)
    [first, *_] = answer.response_metadata["logprobs"]["content"]
    assert first["logprob"] <= 0
    assert len(first["top_logprobs"]) == 2


def test_responses_api() -> None:
    chat = ChatOpenAI(model=MODEL, temperature=0, use_responses_api=True, max_retries=0)
    assert chat.invoke(SUM).text == "42"
    assert "".join(piece.text for piece in chat.stream(SUM)) == "42"
    bound = chat.bind_tools([GetWeather], tool_choice="required", parallel_tool_calls=False)
    [call] = bound.invoke("How is the weather in Oslo?").tool_calls
    assert GetWeather.model_validate(call["args"])


def test_completions() -> None:
    llm = OpenAI(model=MODEL, temperature=0, max_tokens=4, max_retries=0)
    text = llm.invoke("Add 12 and")
    assert text == "".join(llm.stream("Add 12 and"))


def test_embeddings() -> None:
    # Without this switch LangChain sends the token ids of OpenAI's own models.
    maker = OpenAIEmbeddings(model=MODEL, check_embedding_ctx_length=False, max_retries=0)
    first, second = maker.embed_documents([SUM, "Tell a story."])
    assert len(first) == len(second) > 0
    assert maker.embed_query(SUM) == pytest.approx(first, abs=1e-3)


def test_refusals_are_its_own_errors(chat: ChatOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(model="no-such-model", max_retries=0).invoke(SUM)
    with pytest.raises(openai.AuthenticationError):
        ChatOpenAI(model=MODEL, api_key="wrong", max_retries=0).invoke(SUM)
    with pytest.raises(ContextOverflowError):
        chat.invoke("Add " * 5_000)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        ChatOpenAI(model=MODEL, temperature=9).invoke(SUM)
