"""/v1/embeddings as OpenAI's own client uses it, and what it refuses."""

import base64
import math
import struct

import httpx2
import openai
import pytest

from penstock.api.embedding import AT_ONCE
from penstock.jobs.fake_engine import DIMENSIONS, expected_vector

from .conftest import IDLE_MODEL, MODEL


def near(vector: tuple[float, ...]) -> object:
    return pytest.approx(vector, abs=1e-6)


def test_a_text_has_a_vector_of_length_one(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model=MODEL, input="hi")
    [item] = made.data
    assert item.embedding == near(expected_vector("hi"))
    assert math.hypot(*item.embedding) == pytest.approx(1, abs=1e-6)
    assert (made.object, made.model, item.object, item.index) == ("list", MODEL, "embedding", 0)
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (2, 2)


def test_base64_is_little_endian_float32(http: httpx2.Client) -> None:
    body = {"model": MODEL, "input": "hi"}
    plain = http.post("/v1/embeddings", json={**body, "encoding_format": "float"}).json()
    coded = http.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    data = base64.b64decode(coded["data"][0]["embedding"], validate=True)
    assert list(struct.unpack(f"<{DIMENSIONS}f", data)) == plain["data"][0]["embedding"]
    assert http.post("/v1/embeddings", json=body).json() == plain  # who says nothing gets numbers


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (["a", "b", "a"], ["a", "b", "a"]),
        ([104, 105], ["hi"]),
        ([[104, 105], [97]], ["hi", "a"]),
    ],
)
def test_all_spellings_of_input(client: openai.OpenAI, given: list, texts: list[str]) -> None:
    made = client.embeddings.create(model=MODEL, input=given)
    assert [item.embedding for item in made.data] == [near(expected_vector(t)) for t in texts]
    assert [item.index for item in made.data] == list(range(len(texts)))


def test_more_than_run_at_once_keep_their_order(client: openai.OpenAI) -> None:
    texts = [f"text {number}" for number in range(2 * AT_ONCE + 1)]
    made = client.embeddings.create(model=MODEL, input=texts)
    assert [item.embedding for item in made.data] == [near(expected_vector(t)) for t in texts]
    assert made.usage.prompt_tokens == sum(map(len, texts))


def test_fewer_dimensions(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model=MODEL, input="hi", dimensions=3)
    assert made.data[0].embedding == near(expected_vector("hi", 3))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": DIMENSIONS + 1}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": "x" * 100_001}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"made_up": 1}, "made_up"),
    ],
)
def test_what_cannot_be_is_refused(http: httpx2.Client, change: dict, param: str) -> None:
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": "hi", **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_failing_input_fails_the_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model=MODEL, input=["fine", "[[fail]]"])
    assert caught.value.code == "engine_error"


def test_models_that_are_not_there(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="none-such", input="hi")
    with pytest.raises(openai.InternalServerError) as caught:
        client.embeddings.create(model=IDLE_MODEL, input="hi")
    assert caught.value.code == "no_worker"
