"""LiteLLM, told nothing but where the server is: all else is as its manual has it."""

# pyright: reportMissingImports=false
# The clients live in an environment of their own, which the type checker does not see.

import asyncio
import json
import time
from typing import Any, Literal

import litellm
import pytest
from pydantic import BaseModel

MODEL = "openai/penstock-demo"
ASK = [{"role": "user", "content": "Add 12 and 30."}]
ASK_WEATHER = [{"role": "user", "content": "How is the weather in Oslo?"}]


class Place(BaseModel):
    city: Literal["Paris", "Oslo"]


TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": Place.model_json_schema()},
}


def complete(messages: list[dict[str, str]] = ASK, **options: Any) -> Any:
    given = {"model": MODEL, "temperature": 0, "num_retries": 0, **options}
    return litellm.completion(messages=messages, **given)


def text_of(answer: Any) -> str:
    return answer.choices[0].message.content


def test_a_chat_and_what_it_took() -> None:
    answer = complete()
    assert text_of(answer) == "42"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_the_chat_in_pieces() -> None:
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    assert len(chunks) > 2
    whole = litellm.stream_chunk_builder(chunks)
    assert text_of(whole) == "42"
    assert whole.usage.completion_tokens == complete().usage.completion_tokens


def test_async() -> None:
    async def walk() -> tuple[str, str]:
        options: Any = {"model": MODEL, "messages": ASK, "temperature": 0}
        whole = await litellm.acompletion(**options)
        stream = await litellm.acompletion(**options, stream=True)
        return text_of(whole), "".join([c.choices[0].delta.content or "" async for c in stream])

    assert asyncio.run(walk()) == ("42", "42")


def test_many_at_once_keep_their_order() -> None:
    conversations = [[{"role": "user", "content": f"Add {n} and 30."}] for n in (12, 15, 12)]
    answers = litellm.batch_completion(MODEL, conversations, temperature=0)
    assert [text_of(a) for a in answers] == [text_of(complete(each)) for each in conversations]


def test_tools() -> None:
    options = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    [choice] = complete(ASK_WEATHER, **options).choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert Place.model_validate_json(call.function.arguments)
    streamed = litellm.stream_chunk_builder(list(complete(ASK_WEATHER, stream=True, **options)))
    [told] = streamed.choices[0].message.tool_calls
    assert told.function.arguments == call.function.arguments


def test_structured_output() -> None:
    assert Place.model_validate_json(text_of(complete(ASK_WEATHER, response_format=Place)))


def test_responses_api() -> None:
    answer = litellm.responses(model=MODEL, input="Add 12 and 30.", temperature=0)
    assert answer.output_text == "42"
    events = list(
        litellm.responses(model=MODEL, input="Add 12 and 30.", temperature=0, stream=True)
    )
    assert events[-1].response.output_text == "42"


def test_completions() -> None:
    options: Any = {"model": "text-completion-openai/penstock-demo", "temperature": 0}
    made = litellm.text_completion(prompt="Add 12 and", max_tokens=4, **options)
    assert 0 < made.usage.completion_tokens <= 4
    stream = litellm.text_completion(prompt="Add 12 and", max_tokens=4, stream=True, **options)
    assert "".join(chunk.choices[0].text or "" for chunk in stream) == made.choices[0].text


def test_embeddings() -> None:
    made = litellm.embedding(MODEL, ["Add 12 and 30.", "Tell a story."])
    first, second = (item["embedding"] for item in made.data)
    assert len(first) == len(second) > 0


def test_files_and_batches() -> None:
    body = {"model": "penstock-demo", "messages": ASK, "temperature": 0}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    to: Any = {"custom_llm_provider": "openai"}
    file = litellm.create_file(file=("a.jsonl", json.dumps(line).encode()), purpose="batch", **to)
    batch = litellm.create_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, **to
    )
    deadline_s = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired"):
        assert time.monotonic() < deadline_s, f"the batch is still {batch.status}"
        time.sleep(0.1)
        batch = litellm.retrieve_batch(batch.id, **to)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1)
    [told] = litellm.file_content(batch.output_file_id, **to).text.splitlines()
    assert json.loads(told)["response"]["body"]["choices"][0]["message"]["content"] == "42"
    assert batch.id in [each.id for each in litellm.list_batches(**to).data]


def test_refusals_are_its_own_errors() -> None:
    with pytest.raises(litellm.NotFoundError):
        complete(model="openai/no-such-model")
    with pytest.raises(litellm.AuthenticationError):
        complete(api_key="wrong")
    with pytest.raises(litellm.ContextWindowExceededError):
        complete([{"role": "user", "content": "Add " * 5_000}])
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        complete(temperature=9)
