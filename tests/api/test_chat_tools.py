"""Tools and forms of answers through the official client, whole and streamed."""

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from penstock.jobs.fake_engine import SAY

from .conftest import MODEL, Stack
from .test_chat import ask

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look at the sky.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
OSLO = PARIS.replace("Paris", "Oslo")


def saying(text: str) -> list[Any]:
    return ask(SAY + text)


def test_calls_come_as_calls(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=saying("Let me see.\n" + PARIS + "\n" + OSLO), tools=[WEATHER]
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see.\n"
    assert choice.message.tool_calls is not None
    called = [(call.type, call.function.name, call.function.arguments)
              for call in choice.message.tool_calls if call.type == "function"]  # fmt: skip
    assert called == [
        ("function", "get_weather", '{"city": "Paris"}'),
        ("function", "get_weather", '{"city": "Oslo"}'),
    ]
    ids = [call.id for call in choice.message.tool_calls]
    assert len(set(ids)) == 2
    assert all(call_id.startswith("call_") for call_id in ids)


def test_a_lone_call_has_no_content(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=saying(PARIS), tools=[WEATHER])
    assert answer.choices[0].message.content is None


def test_a_stream_tells_the_same_calls(client: openai.OpenAI) -> None:
    contents, reasons, calls = "", [], {}
    for chunk in client.chat.completions.create(
        model=MODEL, messages=saying("Well. " + PARIS + OSLO), tools=[WEATHER], stream=True
    ):
        [choice] = chunk.choices
        contents += choice.delta.content or ""
        reasons.append(choice.finish_reason)
        for call in choice.delta.tool_calls or []:
            assert call.function is not None
            calls[call.index] = (call.id, call.type, call.function.name, call.function.arguments)
    assert contents == "Well. "
    assert [reason for reason in reasons if reason] == ["tool_calls"]
    assert [call[1:] for call in calls.values()] == [
        ("function", "get_weather", '{"city": "Paris"}'),
        ("function", "get_weather", '{"city": "Oslo"}'),
    ]
    assert list(calls) == [0, 1]


def test_the_clients_own_stream_helper_understands_it(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=saying("So: " + PARIS), tools=[WEATHER]
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    [choice] = final.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "So: "
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.arguments == '{"city": "Paris"}'


def test_samples_call_on_their_own(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=saying(PARIS), tools=[WEATHER], n=2
    )
    ids = [
        choice.message.tool_calls[0].id for choice in answer.choices if choice.message.tool_calls
    ]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_call_and_calls_of_nobody_are_text(client: openai.OpenAI, stream: bool) -> None:
    def said(text: str, **options: Any) -> tuple[str, str | None]:
        answer: Any = client.chat.completions.create(
            model=MODEL, messages=saying(text), stream=stream, **options
        )
        if not stream:
            return answer.choices[0].message.content, answer.choices[0].finish_reason
        chunks = [chunk.choices[0] for chunk in answer]
        return "".join(c.delta.content or "" for c in chunks), chunks[-1].finish_reason

    assert said(PARIS[:-20], tools=[WEATHER]) == (PARIS[:-20], "stop")
    assert said(PARIS) == (PARIS, "stop")
    assert said(PARIS, tools=[WEATHER], tool_choice="none") == (PARIS, "stop")


def test_a_conversation_goes_on_with_what_the_tool_said(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=saying(PARIS), tools=[WEATHER])
    said = first.choices[0].message
    assert said.tool_calls is not None
    messages: Any = [
        *ask("How is Paris?"),
        said.model_dump(),
        {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": SAY + "sunny"},
    ]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "sunny"


class Order(BaseModel):
    item: str
    amount: int


def test_the_clients_parse_helper_gets_its_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=saying('{"item": "tea", "amount": 2}'), response_format=Order
    )
    assert answer.choices[0].message.parsed == Order(item="tea", amount=2)


def test_forms_of_answers_are_taken(client: openai.OpenAI) -> None:
    forms: list[Any] = [{"type": "text"}, {"type": "json_object"}]
    for form in forms:
        answer = client.chat.completions.create(
            model=MODEL, messages=saying("{}"), response_format=form
        )
        assert answer.choices[0].message.content == "{}"
    for extra in ({"structured_outputs": {"choice": ["{}"]}}, {"bad_words": ["x"]}):
        answer = client.chat.completions.create(
            model=MODEL, messages=saying("{}"), logit_bias={"5": 1}, extra_body=extra
        )
        assert answer.choices[0].message.content == "{}"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_forced_call_binds_the_engine(choice: Any) -> None:
    from penstock.api.schemas import ChatRequest
    from penstock.jobs.model import SamplingParams

    tools = [WEATHER, {"type": "function", "function": {"name": "f"}}]
    body = ChatRequest.model_validate(
        {"model": "m", "messages": ask("x"), "tools": tools, "tool_choice": choice}
    )
    use = body.tool_use()
    assert use is not None
    bound = use.sampling_params(SamplingParams(), None)
    assert isinstance(bound, SamplingParams)
    assert bound.structured_outputs is not None
    grammar = bound.structured_outputs.grammar
    assert grammar is not None
    assert ("get_weather" in grammar) == (choice == "required")
    assert '\\"f\\"' in grammar


def test_beside_tools_an_answer_may_be_json_only(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL,
            messages=saying("x"),
            tools=[WEATHER],
            extra_body={"structured_outputs": {"regex": "x"}},
        )
    assert caught.value.param == "structured_outputs"
    answer = client.chat.completions.create(
        model=MODEL,
        messages=saying(PARIS),
        tools=[WEATHER],
        response_format={"type": "json_object"},
    )
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tool_calls_on_the_wire(stack: Stack) -> None:
    body = {"model": MODEL, "messages": saying(PARIS), "tools": [WEATHER], "stream": True}
    with stack.http() as http:
        frames = http.post("/v1/chat/completions", json=body).text.split("\n\n")
    deltas = [json.loads(frame[6:])["choices"][0]["delta"] for frame in frames[:-2]]
    assert deltas[0]["role"] == "assistant"
    [told] = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert set(told[0]) == {"index", "id", "type", "function"}
