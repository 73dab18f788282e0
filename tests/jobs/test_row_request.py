"""A row's own request, as OpenAI's batch lines hold it, and the task's wishes behind it."""

from typing import Any

import pytest

from penstock.jobs.model import InvalidSampling, RequestError, SamplingParams, TaskSpec
from penstock.jobs.row_request import RowRequest, row_request
from penstock.jobs.tool_use import ToolFormat, ToolUse, call_ids, tool_use_of

from .conftest import format_of

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def read(body: Any, task: TaskSpec | None = None, **row: Any) -> RowRequest | RequestError:
    task = task or TaskSpec(model="m", sampling={"max_tokens": 9, "top_k": 4})
    return row_request(task, task.sampling_params(), {"body": body, **row})


def wish(body: Any, task: TaskSpec | None = None, **row: Any) -> RowRequest:
    made = read(body, task, **row)
    assert isinstance(made, RowRequest), made
    return made


def test_a_batch_line_says_what_it_wants() -> None:
    made = wish(
        {
            "model": "m",
            "messages": HI,
            "temperature": 0,
            "max_completion_tokens": 3,
            "stop": ["x"],
            "response_format": format_of(SCHEMA),
            "tools": [TOOL],
            "user": "u",
            "stream": False,
            "chat_template_kwargs": {"enable_thinking": False},
        },
        custom_id="c1",
        method="POST",
        url="/v1/chat/completions",
    )
    assert made.prompt.messages == tuple(HI)
    params = made.params
    assert (params.temperature, params.max_tokens, params.top_k) == (0, 3, 4)
    assert params.stop == ("x",)
    assert made.is_json
    assert made.tools is not None
    assert made.tools.choice == "auto"
    assert made.template_options == {"enable_thinking": False}


def test_what_a_line_leaves_open_the_task_decides() -> None:
    use = tool_use_of([TOOL], "required")
    task = TaskSpec(model="m", response_format=format_of(SCHEMA), tools=use)
    made = wish({"prompt": "p"}, task, url="/v1/completions")
    assert (made.prompt.text, made.prompt.endpoint) == ("p", "/v1/completions")
    assert made.is_json
    assert made.tools == use
    assert wish({"messages": HI, "tools": []}, task).tools is None


def test_a_line_that_asks_for_any_text_gets_no_form() -> None:
    task = TaskSpec(model="m", response_format={"type": "json_object"})
    text = {"response_format": {"type": "text"}}
    made = wish({"messages": HI, **text}, task)
    assert made.params.structured_outputs is None and not made.is_json
    own = wish({"messages": HI, **text, "structured_outputs": {"regex": "a"}}, task)
    assert own.params.structured_outputs is not None
    assert own.params.structured_outputs.regex == "a"


def test_a_choice_alone_is_among_the_tasks_tools() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    named = {"type": "function", "function": {"name": "g"}}
    task = TaskSpec(model="m", tools=tool_use_of([TOOL, other], named, False))

    def use(**said: Any) -> ToolUse | None:
        return wish({"messages": HI, **said}, task).tools

    assert use() == use(tools=None, tool_choice=None) == task.tools
    assert use(tool_choice="required") == ToolUse((TOOL, other), "required", None, False)
    assert use(tool_choice="auto", parallel_tool_calls=True) == ToolUse((TOOL, other))
    assert use(parallel_tool_calls=True) == ToolUse((TOOL, other), "required", "g", True)
    assert use(tool_choice="none") is None
    assert use(tools=[TOOL]) == ToolUse((TOOL,))


def test_a_template_comes_before_a_column_called_body() -> None:
    made = wish(
        {"messages": HI}, TaskSpec(model="m", prompt="Say {{ row.body.messages | length }}")
    )
    assert made.prompt.text == "Say 1"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HI, "model": "other"}, "model"),
        ({"messages": HI, "temperature": 9}, "temperature"),
        ({"messages": HI, "stream": True}, "stream"),
        ({"messages": HI, "logprobs": 0}, "logprobs"),
        ({"messages": HI, "top_logprobs": 1}, "top_logprobs"),
        ({"messages": HI, "logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"messages": HI, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": HI, "logprobs": True, "top_logprobs": True}, "top_logprobs"),
        ({"prompt": "hi", "logprobs": True}, "logprobs"),
        ({"prompt": "hi", "logprobs": 6}, "logprobs"),
        ({"prompt": "hi", "logprobs": 1, "top_logprobs": 1}, "top_logprobs"),
        ({"prompt": "hi", "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"messages": HI, "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"messages": HI, "foo": 1}, "foo"),
        ({"messages": HI, "tools": [{}]}, "tools"),
        ({"messages": HI, "tool_choice": "required"}, "tool_choice"),
        ({"messages": HI, "response_format": {"type": "xml"}}, "response_format"),
        ({"messages": HI, "structured_outputs": {"json": 5}}, "structured_outputs"),
        ({"messages": HI, "chat_template_kwargs": 1}, "chat_template_kwargs"),
        ({"messages": "hi"}, "messages"),
        ({}, "prompt"),
    ],
)
def test_a_bad_request_is_that_rows_error(body: dict[str, Any], param: str) -> None:
    error = read(body)
    assert isinstance(error, RequestError)
    assert (error.code, error.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("body", "logprobs"),
    [
        ({"messages": HI}, None),
        ({"messages": HI, "logprobs": None, "top_logprobs": None}, None),
        ({"messages": HI, "logprobs": False}, None),
        ({"messages": HI, "logprobs": True}, 0),
        ({"messages": HI, "logprobs": True, "top_logprobs": 20}, 20),
        ({"prompt": "hi", "logprobs": False}, None),
        ({"prompt": "hi", "logprobs": 0}, 0),
        ({"prompt": "hi", "logprobs": 5}, 5),
    ],
)
def test_chats_and_completions_ask_for_logprobs_apart(
    body: dict[str, Any], logprobs: int | None
) -> None:
    assert wish(body).params.logprobs == logprobs


def test_a_row_without_a_wish_has_the_tasks_logprobs() -> None:
    task = TaskSpec(model="m", sampling={"logprobs": 3})
    assert wish({"messages": HI}, task).params.logprobs == 3
    assert wish({"messages": HI, "logprobs": True}, task).params.logprobs == 0


def test_another_url_is_that_rows_error() -> None:
    error = read({"messages": HI}, url="/v1/embeddings")
    assert isinstance(error, RequestError)
    assert error.param == "url"


def test_ids_of_calls_follow_from_the_row() -> None:
    first, again, other = call_ids(of="a/1"), call_ids(of="a/1"), call_ids(of="a/2")
    made = [first(), first(), again(), again(), other()]
    assert made[:2] == made[2:4]
    assert len(set(made)) == 3


def test_tools_need_a_known_format_unless_they_must_be_called() -> None:
    auto = tool_use_of([TOOL])
    assert auto is not None
    params = SamplingParams()
    refused = auto.sampling_params(params, None)
    assert isinstance(refused, RequestError)
    assert refused.param == "tools"
    assert auto.sampling_params(params, ToolFormat.HERMES) is params
    bound = ToolUse((TOOL,), "required").sampling_params(params, None)
    assert isinstance(bound, SamplingParams)
    assert bound.structured_outputs is not None


def test_a_named_function_is_called_once() -> None:
    for choice, start in (("required", "start: call ("), (TOOL, "start: call\n")):
        use = tool_use_of([TOOL], choice)
        assert use is not None
        bound = use.sampling_params(SamplingParams(), ToolFormat.HERMES)
        assert isinstance(bound, SamplingParams)
        assert bound.structured_outputs is not None
        assert (bound.structured_outputs.grammar or "").startswith(start)
    with pytest.raises(InvalidSampling, match="'f' twice"):
        tool_use_of([TOOL, TOOL])
