"""What real clients check in a stream: one id, the role first, usage last, [DONE] once."""

import json
from typing import Any

import httpx2
import pytest

from .conftest import MODEL

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
PLAIN = ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 3})


def frames(http: httpx2.Client, path: str, body: dict[str, Any]) -> list[str]:
    answer = http.post(path, json={"model": MODEL, "stream": True, **body})
    assert answer.status_code == 200, answer.text
    parts = answer.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [part.removeprefix("data: ") for part in parts]


@pytest.mark.parametrize(("path", "body"), [CHAT, PLAIN])
@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_has_one_id_and_one_end(
    http: httpx2.Client, path: str, body: dict[str, Any], n: int
) -> None:
    told = frames(http, path, {**body, "n": n})
    assert told.count("[DONE]") == 1
    assert told[-1] == "[DONE]"
    chunks = [json.loads(text) for text in told[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len({chunk["created"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    for index in range(n):
        reasons = [
            choice["finish_reason"]
            for chunk in chunks
            for choice in chunk["choices"]
            if choice["index"] == index
        ]
        assert reasons == [None] * (len(reasons) - 1) + [reasons[-1]]
        assert reasons[-1] in ("stop", "length")


@pytest.mark.parametrize(("path", "body"), [CHAT, PLAIN])
def test_usage_is_null_until_its_own_chunk(
    http: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    told = frames(http, path, {**body, "stream_options": {"include_usage": True}})
    *chunks, last = [json.loads(text) for text in told[:-1]]
    assert chunks
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == []
    usage = last["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 0


def test_the_role_comes_first_for_every_choice(http: httpx2.Client) -> None:
    path, body = CHAT
    chunks = [json.loads(text) for text in frames(http, path, {**body, "n": 3})[:-1]]
    for index in range(3):
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"][0]["index"] == index]
        roles = [delta.get("role") for delta in deltas]
        assert roles == ["assistant"] + [None] * (len(deltas) - 1)


def test_samples_of_several_prompts_stand_prompt_by_prompt(http: httpx2.Client) -> None:
    path, body = PLAIN
    whole = http.post(path, json={"model": MODEL, **body, "n": 2, "echo": True}).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert [choice["text"][0] for choice in whole["choices"]] == ["a", "a", "b", "b"]
    assert whole["usage"]["prompt_tokens"] == 2
    assert whole["usage"]["completion_tokens"] == 4 * 3
