"""Completions: one prompt or several, as text or token ids."""

import httpx2
import openai
import pytest

from penstock.api.generation import Part
from penstock.api.routes.completions import CompletionShape
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.frames import Delta

from .conftest import MODEL


def test_one_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once", max_tokens=5)
    [choice] = answer.choices
    assert answer.object == "text_completion"
    assert choice.text == expected_text("Once", num_tokens=5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_several_prompts_and_samples_keep_their_order(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["a", "bb"], n=2, max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [
        expected_text(prompt, num_tokens=3, sample_index=sample)
        for prompt in ("a", "bb")
        for sample in (0, 1)
    ]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 12)


@pytest.mark.parametrize(("prompt", "texts"), [([79, 75], ["OK"]), ([[79, 75], [33]], ["OK", "!"])])
def test_token_ids(client: openai.OpenAI, prompt: list, texts: list[str]) -> None:
    answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=2)
    expected = [expected_text(text, num_tokens=2) for text in texts]
    assert [choice.text for choice in answer.choices] == expected


def test_a_stream_of_several_prompts(client: openai.OpenAI) -> None:
    texts, reasons = ["", ""], ["", ""]
    for chunk in client.completions.create(
        model=MODEL, prompt=["a", "bb"], max_tokens=4, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [expected_text("a", num_tokens=4), expected_text("bb", num_tokens=4)]
    assert "" not in reasons


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []},
        {"prompt": [-1]},
        {"prompt": [1.5]},
        {"prompt": [True]},
        {"prompt": [[[1]]]},
        {"prompt": [2**63]},
        {"prompt": ["a", 1]},
        {"prompt": ["x"] * 200},
        {"prompt": {"a": 1}},
        {"echo": True, "logprobs": 1, "n": 2},
        {"suffix": "x"},
        {"best_of": 2},
        {"n": 128, "prompt": ["x"] * 100},
    ],
)
def test_bad_prompts_and_what_we_lack(client: openai.OpenAI, change: dict) -> None:
    wish = {"model": MODEL, "prompt": "hi", "max_tokens": 4, **change}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/completions", cast_to=object, body=wish)
    assert caught.value.param in change


def test_one_bad_prompt_of_several_ends_the_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.completions.create(model=MODEL, prompt=["fine", "[[fail]]", "[[long]]"])
    assert client.completions.create(model=MODEL, prompt="still here").choices


def test_logprobs_are_four_parallel_lists() -> None:
    shape = CompletionShape(MODEL)
    tokens = [
        {"token": "ab", "logprob": -1.0, "top": [{"token": "ab", "logprob": -1.0}]},
        {"token": "c", "logprob": -2.0, "top": []},
    ]
    first = Part(0, Delta(request_id="r", text="ab", logprobs=(tokens[0],)))
    second = Part(0, Delta(request_id="r", text="c", logprobs=(tokens[1],)))
    assert shape.chunks(first)[0]["choices"][0]["logprobs"] == {
        "tokens": ["ab"],
        "token_logprobs": [-1.0],
        "top_logprobs": [{"ab": -1.0}],
        "text_offset": [0],
    }
    assert shape.chunks(second)[0]["choices"][0]["logprobs"]["text_offset"] == [2]


@pytest.mark.parametrize("prompt", ["begin ", [98, 101, 103, 105, 110, 32]])
def test_an_echo_begins_with_the_prompt(client: openai.OpenAI, prompt: str | list[int]) -> None:
    wanted = "begin " + expected_text("begin ", num_tokens=2)
    options: dict = {"model": MODEL, "prompt": prompt, "max_tokens": 2, "echo": True}
    assert client.completions.create(**options).choices[0].text == wanted
    chunks = client.completions.create(**options, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == wanted


def test_an_echo_of_no_tokens_is_refused_like_any_other(http: httpx2.Client) -> None:
    body = {"model": MODEL, "prompt": [2**31 - 1], "echo": True}
    assert http.post("/v1/completions", json=body).status_code == 400
    assert http.post("/v1/completions", json={**body, "prompt": "a"}).status_code == 200
