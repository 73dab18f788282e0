"""Chats through the official client: whole and streamed, several at once, broken off."""

import asyncio
import time

import httpx2
import openai
import pytest

from penstock.api.generation import Part, Usage, refusal_of
from penstock.api.routes.chat import ChatShape
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.frames import Delta
from penstock.jobs.logprob_shapes import token_entry
from penstock.jobs.model import RequestError

from .conftest import MODEL, Stack

NUM_TOKENS = 8


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


def wait_until_idle(http: httpx2.Client, within_s: float = 60.0) -> None:
    """Wait until no worker runs anything."""
    deadline = time.monotonic() + within_s
    while any(worker["running_rows"] for worker in http.get("/v1/workers").json()["data"]):
        assert time.monotonic() < deadline, f"the engine is still at work after {within_s} s"
        time.sleep(0.05)


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ask("How deep is it?"))
    [choice] = answer.choices
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert abs(answer.created - time.time()) < 60
    assert choice.message.role == "assistant"
    assert choice.message.content == expected_text("How deep is it?", num_tokens=NUM_TOKENS)
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("How deep is it?")
    assert answer.usage.completion_tokens == NUM_TOKENS
    assert answer.usage.total_tokens == len("How deep is it?") + NUM_TOKENS
    assert answer.usage.prompt_tokens_details is not None


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    text, roles, reasons, usages = "", [], [], []
    with client.chat.completions.create(
        model=MODEL,
        messages=ask("And how wide?"),
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            assert chunk.object == "chat.completion.chunk"
            usages.append(chunk.usage)
            for choice in chunk.choices:
                text += choice.delta.content or ""
                roles.append(choice.delta.role)
                reasons.append(choice.finish_reason)
    assert text == expected_text("And how wide?", num_tokens=NUM_TOKENS)
    assert roles == ["assistant"] + [None] * (len(roles) - 1)
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert [usage is None for usage in usages] == [True] * (len(usages) - 1) + [False]
    assert usages[-1].completion_tokens == NUM_TOKENS


def test_a_stream_on_the_wire(http: httpx2.Client) -> None:
    body = {"model": MODEL, "messages": ask("wire"), "stream": True, "max_tokens": 2}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"]
    frames = answer.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    assert all(frame.startswith("data: ") for frame in frames[:-1])
    assert "usage" not in frames[0]


def test_several_samples_are_told_apart(client: openai.OpenAI) -> None:
    wanted = [expected_text("n", num_tokens=NUM_TOKENS, sample_index=i) for i in range(3)]
    assert len(set(wanted)) == 3
    whole = client.chat.completions.create(model=MODEL, messages=ask("n"), n=3)
    assert [choice.message.content for choice in whole.choices] == wanted
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (1, 3 * NUM_TOKENS)
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(model=MODEL, messages=ask("n"), n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == wanted


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit(client: openai.OpenAI, limit: str) -> None:
    limits: dict = {limit: 3}
    answer = client.chat.completions.create(model=MODEL, messages=ask("short"), **limits)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_text_parts_and_known_extras(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "developer", "content": "x"}, {"role": "user", "content": parts}],  # pyright: ignore
        temperature=0,
        seed=7,
        extra_body={"top_k": 5, "min_p": 0.1, "ignore_eos": True, "repetition_penalty": 1.1},
    )
    assert answer.choices[0].message.content == expected_text("x\nab", num_tokens=NUM_TOKENS)


def test_an_answer_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=ask("one"))
    said = first.choices[0].message.model_dump()
    messages = [*ask("one"), said, *ask("two")]
    again = client.chat.completions.create(model=MODEL, messages=messages)  # pyright: ignore[reportArgumentType]
    assert again.choices[0].message.content


def test_many_streams_at_once_do_not_mix(stack: Stack) -> None:
    async def one(client: openai.AsyncOpenAI, text: str) -> str:
        stream = await client.chat.completions.create(model=MODEL, messages=ask(text), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with stack.async_openai() as client:
            return await asyncio.gather(*(one(client, f"stream {i}") for i in range(24)))

    expected = [expected_text(f"stream {i}", num_tokens=NUM_TOKENS) for i in range(24)]
    assert asyncio.run(all_of_them()) == expected


def test_a_failing_request_is_an_error_of_its_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=ask("[[fail]]"))
    assert caught.value.code == "engine_error"
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model=MODEL, messages=ask("[[fail]]"), stream=True))
    assert client.chat.completions.create(model=MODEL, messages=ask("fine")).choices


@pytest.mark.parametrize("stream", [False, True])
def test_too_long_a_prompt_is_a_400_also_for_a_stream(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=ask("x" * 100_001), stream=stream)
    assert caught.value.code == "context_length_exceeded"


def test_leaving_a_stream_stops_the_engine(client: openai.OpenAI, http: httpx2.Client) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=ask("[[long]]"), stream=True)
    for _ in stream:
        if any(worker["running_rows"] for worker in http.get("/v1/workers").json()["data"]):
            break
    stream.close()
    wait_until_idle(http)


def test_leaving_without_an_answer_stops_the_engine(stack: Stack, http: httpx2.Client) -> None:
    body = {"model": MODEL, "messages": ask("[[long]] whole")}
    for patience_s in (0.05, 2.5):
        with stack.http(patience_s) as impatient, pytest.raises(httpx2.ReadTimeout):
            impatient.post("/v1/chat/completions", json=body)
        wait_until_idle(http)


def test_a_stream_that_breaks_says_so_in_band(client: openai.OpenAI, http: httpx2.Client) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=ask("[[long]]"), stream=True)
    next(iter(stream))
    killer = http.post("/v1/chat/completions", json={"model": MODEL, "messages": ask("[[crash]]")})
    assert killer.status_code == 503
    assert killer.json()["error"]["code"] == "worker_lost"
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "worker_lost"
    deadline = time.monotonic() + 60
    while http.post(
        "/v1/chat/completions", json={"model": MODEL, "messages": ask("again")}
    ).is_error:
        assert time.monotonic() < deadline, "the engine did not come back"
        time.sleep(0.2)


def test_refusals_of_the_engine_keep_their_meaning() -> None:
    too_long = RequestError(code="context_length_exceeded", message="m", param="prompt")
    refusal = refusal_of(too_long, "messages")
    assert (refusal.status, refusal.param) == (400, "messages")
    assert refusal_of(RequestError(code="nan", message="m"), "prompt").status == 500
    lost = RequestError(code="worker_lost", message="m", retryable=True)
    assert refusal_of(lost, "prompt").status == 503
    template = RequestError(code="template_error", message="m", stage="render")
    assert refusal_of(template, "prompt").status == 400


def test_logprobs_have_openais_shape() -> None:
    token = {
        "token": "ü",
        "token_id": 7,
        "logprob": -0.5,
        "top": [{"token": "ü", "token_id": 7, "logprob": -0.5}],
    }
    part = Part(0, Delta(request_id="r", text="ü", logprobs=(token,)))
    [chunk] = ChatShape(MODEL).chunks(part)
    [choice] = chunk["choices"]
    entry = {"token": "ü", "logprob": -0.5, "bytes": [0xC3, 0xBC]}
    assert choice["logprobs"] == {
        "content": [{**entry, "top_logprobs": [entry]}],
        "refusal": None,
    }
    assert token_entry({"token": "\ufffd", "logprob": -1.0})["bytes"] is None


def test_usage_adds_up() -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=2).to_openai()
    assert usage["total_tokens"] == 7
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}
