"""What a stream of the real engine may not do: let out a stop string, or half a character."""

import json
from typing import Any

import httpx2
import pytest

from .stack import Stack

STORY = [{"role": "user", "content": "Tell a story about a fox."}]
SUM = [{"role": "user", "content": "Add 2 and 3."}]


def ask(stack: Stack, **body: Any) -> httpx2.Response:
    chat = {"model": "penstock-demo", "messages": STORY, "temperature": 0, **body}
    return httpx2.post(f"{stack.url}/v1/chat/completions", json=chat, timeout=240)


def whole(stack: Stack, **body: Any) -> tuple[str, str, int]:
    answer = ask(stack, **body).json()
    [choice] = answer["choices"]
    used = answer["usage"]["completion_tokens"]
    return choice["message"]["content"], choice["finish_reason"], used


def pieces(stack: Stack, **body: Any) -> list[str]:
    frames = ask(stack, stream=True, **body).text.split("\n\n")
    chunks = [json.loads(frame[6:]) for frame in frames if frame.startswith("data: {")]
    return [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]


@pytest.mark.parametrize(("first", "last"), [(20, 24), (30, 31), (40, 60)])
def test_no_stop_string_is_let_out(stack: Stack, first: int, last: int) -> None:
    story, _, _ = whole(stack, max_tokens=60)
    stop = story[first:last]
    before = story[: story.index(stop)]
    assert before and len(stop) == last - first
    assert "".join(pieces(stack, max_tokens=60, stop=[stop, "never said"])) == before
    assert whole(stack, max_tokens=60, stop=stop)[:2] == (before, "stop")


def test_no_character_comes_in_halves(stack: Stack) -> None:
    said = "né€😀x"
    form = {"choice": [said]}
    told = pieces(stack, structured_outputs=form)
    assert "".join(told) == said
    assert {piece for piece in told if piece} <= set(said), "one by one, as the tokens are bytes"
    assert "".join(pieces(stack, structured_outputs=form, stop="😀")) == "né€"


def test_an_answer_is_as_long_as_it_is_told_to_be(stack: Stack) -> None:
    _, reason, num_tokens = whole(stack, messages=SUM)
    assert (reason, num_tokens < 10) == ("stop", True)
    assert whole(stack, messages=SUM, max_tokens=30, min_tokens=20)[2] >= 20
    assert whole(stack, messages=SUM, max_tokens=30, ignore_eos=True)[1:] == ("length", 30)
    assert whole(stack, messages=SUM, max_completion_tokens=1)[1:] == ("length", 1)


def test_roles_and_parts_are_what_they_stand_for(stack: Stack) -> None:
    def said(role: str, content: Any) -> str:
        messages = [{"role": role, "content": "Be brief."}, {"role": "user", "content": content}]
        return whole(stack, messages=messages)[0]

    parts = [{"type": "text", "text": "Add 2"}, {"type": "text", "text": " and 3."}]
    assert said("developer", parts) == said("system", "Add 2 and 3.")
