"""What a watched request says, sample by sample, and how its prompt reaches the model."""

import pytest

from penstock.engine.outputs import FinishReason, Request, StepOutput
from penstock.jobs.fake_engine import FakeModel, FakeTokenizer
from penstock.jobs.frames import InteractiveRequest
from penstock.jobs.model import SamplingParams
from penstock.jobs.open_request import OpenRequest
from penstock.jobs.prompt_encoder import PromptEncoder
from penstock.jobs.tool_use import ToolFormat

CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def request(num_samples: int = 1) -> Request:
    return Request("r", (65, 66), SamplingParams(n=num_samples))


def said(text: str, index: int = 0, reason: FinishReason | None = None) -> StepOutput:
    return StepOutput("r", index, text=text, finish_reason=reason)


def test_samples_are_read_apart() -> None:
    watched = OpenRequest(request(2), ToolFormat.HERMES)
    assert watched.read(said("a" + CALL[:9], 0)) == ("a", (), None)
    assert watched.read(said("b", 1, FinishReason.STOP)) == ("b", (), FinishReason.STOP)
    assert not watched.is_over
    text, calls, reason = watched.read(said(CALL[9:], 0, FinishReason.STOP))
    assert (text, [call.name for call in calls], reason) == ("", ["f"], "tool_calls")
    assert watched.is_over


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.ERROR])
def test_another_end_keeps_its_name(reason: FinishReason) -> None:
    watched = OpenRequest(request(), ToolFormat.HERMES)
    text, calls, told = watched.read(said(CALL + "<tool_c", 0, reason))
    assert (text, len(calls), told) == ("<tool_c", 1, reason)


def test_an_echo_comes_once_for_each_sample() -> None:
    watched = OpenRequest(request(2), None, "AB")
    texts = [watched.read(said(text, index))[0] for text, index in (("x", 0), ("y", 1), ("z", 0))]
    assert texts == ["ABx", "ABy", "z"]
    assert watched.first_token_id == 65


def test_the_setting_outranks_what_the_template_tells() -> None:
    tokenizer = FakeTokenizer(FakeModel(calls=""))
    assert PromptEncoder(tokenizer).tool_format is None
    assert PromptEncoder(tokenizer, "llama").tool_format is ToolFormat.LLAMA
    with pytest.raises(ValueError, match="xml"):
        PromptEncoder(tokenizer, "xml")


def test_an_echo_is_the_prompts_text() -> None:
    encoder = PromptEncoder(FakeTokenizer(FakeModel()))
    text = InteractiveRequest("r", "m", prompt="hi", echo=True)
    tokens = InteractiveRequest("r", "m", token_ids=(104, 105), echo=True)
    assert encoder.echo_of(text, (1,)) == encoder.echo_of(tokens, (104, 105)) == "hi"
    assert encoder.echo_of(InteractiveRequest("r", "m", prompt="hi"), (1,)) == ""
    assert encoder.echo_of(tokens, (2**31 - 1,)) == ""
