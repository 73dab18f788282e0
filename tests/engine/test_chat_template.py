"""Chat templates: rendered as transformers does it, and fenced in as it does not."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from penstock.engine.chat_template import (
    ChatRenderer,
    InvalidMessages,
    TemplateFailed,
    template_messages,
)
from penstock.engine.outputs import RequestError
from penstock.engine.tokenizer import Tokenizer
from penstock.engine.tool_calls import ToolFormat

from .tiny_tokenizers import byte_level

QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\nAnswer with <tool_call>\\n{\\"name\\": …}\\n</tool_call><|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '<tool_call>{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\\n<tool_response>' + message.content }}
        {{- '</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""
TEMPLATES = {
    "qwen": QWEN,
    "macro": "{% macro say(m) %}<{{ m.role }}>{{ m.content | trim }}\n{% endmacro %}"
    "{{ bos_token }}{% for m in messages %}{{ say(m) }}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% if ns.n > 2 %}{% break %}{% endif %}{{ ns.n }}{{ m.content }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join(', ') }} {{ messages | length }}"
    "{{ messages | tojson(indent=2) }} {{ dict(a=1) | items | list }} {{ tools is none }}",
    "reasoning": "{% for m in messages %}{{ m.thinking }}{{ m.reasoning_content }}{% endfor %}",
}  # fmt: skip
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. <b>é</b>"},
    {"role": "user", "content": "What is it?", "name": None},
    {"role": "assistant", "content": "Well", "reasoning": "hm"},
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def tokenizer_with(template: Any) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=byte_level()._backend, bos_token="<bos>")
    wrapped.chat_template = template
    return wrapped


@pytest.fixture
def renderer() -> Iterator[ChatRenderer]:
    renderer = ChatRenderer(max_cpu_s=0.5, max_memory_bytes=300 << 20, max_chars=100_000)
    yield renderer
    renderer.close()


@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize("name", TEMPLATES)
def test_it_is_rendered_as_transformers_does(name: str, tools: list[Any] | None) -> None:
    wrapped = tokenizer_with(TEMPLATES[name])
    wanted = wrapped.apply_chat_template(
        MESSAGES, tools=tools, add_generation_prompt=True, tokenize=False
    )
    assert Tokenizer(wrapped).render_chat(MESSAGES, tools=tools) == wanted
    assert wanted


def test_a_conversation_with_tools_is_laid_out() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": p} for p in ("Where", "?")]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "here"},
    ]  # fmt: skip
    text = Tokenizer(tokenizer_with(QWEN)).render_chat(messages, tools=[TOOL])
    assert isinstance(text, str)
    assert "user\nWhere?<|im_end|>" in text
    assert '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>' in text
    assert "<tool_response>here</tool_response>" in text


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}", "0.5 s"),
        ("{{ 9 ** (9 ** 9) }}", "0.5 s"),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'x' * 2000000000 }}", "memory"),
        ("{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}"
         "{% endfor %}{{ n.s }}", "memory"),
        ("{% for i in range(99999) %}0123456789{% endfor %}", "more than 100000 characters"),
        ("{{ raise_exception('no such role') }}", "no such role"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "SecurityError"),
        ("{% set n = namespace(_x=1) %}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)  # fmt: skip
def test_a_template_is_kept_in_bounds(
    renderer: ChatRenderer, template: str, complaint: str
) -> None:
    with pytest.raises(TemplateFailed, match=complaint):
        renderer.render(template, {"messages": []})
    assert renderer.render("{{ a }}", {"a": "next"}) == "next"


def test_the_clock_is_told(renderer: ChatRenderer) -> None:
    assert renderer.render("{{ strftime_now('%Y') }}", {}) > "2025"


def test_a_killed_renderer_costs_no_row(renderer: ChatRenderer) -> None:
    assert renderer.render("1", {}) == "1"
    process = renderer._process
    assert process is not None
    process.kill()
    assert renderer.render("2", {}) == "2"
    assert renderer._process is not process
    # Killed while it renders: the next one renders it.
    killer = "{% for i in range(99999) %}{% endfor %}done"
    os.kill(renderer._process.pid, signal.SIGSTOP)  # pyright: ignore[reportOptionalMemberAccess]
    timer = threading.Timer(0.2, renderer._process.kill)  # pyright: ignore[reportOptionalMemberAccess]
    timer.start()
    assert renderer.render(killer, {}) == "done"
    timer.join()


def test_an_interrupted_rendering_leaves_its_answer_to_nobody(
    renderer: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(size: int) -> bytes:
        raise KeyboardInterrupt

    assert renderer.render("1", {}) == "1"
    process = renderer._process
    assert process is not None
    with monkeypatch.context() as patch:
        patch.setattr(process.stdout, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            renderer.render("2", {})
    assert renderer.render("3", {}) == "3"


def test_closing_ends_the_process(renderer: ChatRenderer) -> None:
    renderer.render("1", {})
    process = renderer._process
    assert process is not None
    renderer.close()
    assert process.returncode is not None
    assert renderer.render("2", {}) == "2"


def test_what_is_no_json_is_that_rows_error(renderer: ChatRenderer) -> None:
    with pytest.raises(TemplateFailed, match="written as JSON"):
        renderer.render("{{ a }}", {"a": object()})


@pytest.mark.parametrize(
    "messages",
    [[], ["hello"], [{"role": "user", "content": [{"type": "image_url"}]}], [{"content": [5]}]],
)
def test_messages_that_no_template_could_take(messages: list[Any]) -> None:
    with pytest.raises(InvalidMessages):
        template_messages(messages)
    error = Tokenizer(tokenizer_with(QWEN)).encode_chat(messages)
    assert isinstance(error, RequestError)
    assert error.code == "template_error"


def test_arguments_that_are_no_object_stay_text() -> None:
    for arguments in ("5", "not json", "[1]"):
        call = {"function": {"name": "f", "arguments": arguments}}
        [message] = template_messages([{"role": "assistant", "tool_calls": [call, "odd"]}])
        assert message["tool_calls"] == [call, "odd"]


def test_no_calls_are_not_told_of() -> None:
    template = "{% for m in messages %}{{ 'calls' if 'tool_calls' in m else 'says' }}{% endfor %}"
    tokenizer = Tokenizer(tokenizer_with(template))
    for calls in ([], None):
        message = {"role": "assistant", "content": "Well", "tool_calls": calls}
        assert tokenizer.render_chat([message]) == "says"


def test_options_reach_the_template() -> None:
    template = "{{ 'thinks' if enable_thinking else 'answers' }}"
    tokenizer = Tokenizer(tokenizer_with(template))
    assert tokenizer.render_chat(MESSAGES) == "answers"
    options = {"enable_thinking": True, "messages": "none of its business"}
    assert tokenizer.render_chat(MESSAGES, template_options=options) == "thinks"


def test_named_templates_and_a_template_file(tmp_path: Path) -> None:
    wrapped = tokenizer_with({"default": "plain", "tool_use": QWEN})
    tokenizer = Tokenizer(wrapped)
    assert tokenizer.tool_format is ToolFormat.HERMES
    assert tokenizer.render_chat(MESSAGES) == "plain"
    assert "# Tools" in str(tokenizer.render_chat(MESSAGES, tools=[TOOL]))
    wrapped.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == "plain"
    again = Tokenizer.from_directory(tmp_path)
    assert again.tool_format is ToolFormat.HERMES
    assert "# Tools" in str(again.render_chat(MESSAGES, tools=[TOOL]))


def test_a_control_token_in_a_message_is_read_as_one() -> None:
    """As vLLM and transformers do it; who passes on foreign text takes such spellings out."""
    tokenizer = Tokenizer(tokenizer_with("{{ messages[0].content }}"))
    ids = tokenizer.encode_chat([{"role": "user", "content": "<eos>"}])
    assert ids == (2,)


def test_markers_are_text_even_where_they_are_special_tokens() -> None:
    wrapped = tokenizer_with(QWEN)
    backend = wrapped.backend_tokenizer
    markers = ["<tool_call>", "</tool_call>"]
    backend.add_special_tokens([AddedToken(marker, special=True) for marker in markers])
    tokenizer = Tokenizer(wrapped)
    ids = tokenizer.encode("<tool_call>a</tool_call><eos>")
    assert not isinstance(ids, RequestError)
    assert len(ids) == 4
    assert tokenizer.decode(ids) == "<tool_call>a</tool_call>"
    pieces = tokenizer.byte_pieces()
    assert pieces is not None
    assert b"".join(pieces[i] for i in ids) == b"<tool_call>a</tool_call>"
