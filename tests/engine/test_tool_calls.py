"""Tool calls are found in text, and nothing that is none gets lost."""

import json
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import llguidance
import pytest
from hypothesis import given, settings, strategies as st

from penstock.engine.sampling_checks import InvalidSampling
from penstock.engine.tool_calls import (
    Parsed,
    ToolCall,
    ToolCallParser,
    ToolFormat,
    detect_tool_format,
    parse_tool_calls,
)
from penstock.engine.tool_grammar import tool_call_grammar

HERMES, LLAMA = ToolFormat.HERMES, ToolFormat.LLAMA


def ids() -> Callable[[], str]:
    numbers = count()
    return lambda: f"call_{next(numbers)}"


def parse(form: ToolFormat, text: str) -> tuple[str, list[tuple[str, str]]]:
    parsed = parse_tool_calls(form, text, ids())
    return parsed.text, [(call.name, call.arguments) for call in parsed.calls]


def call(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def llama(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


ONE = ("f", '{"a": 1}')


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ("", [])),
        ("no call at all", ("no call at all", [])),
        ("  blanks stay \n", ("  blanks stay \n", [])),
        (" \n", (" \n", [])),
        (call(), ("", [ONE])),
        ("\n\n" + call() + "\n", ("", [ONE])),
        (call("f") + "\n" + call("g"), ("", [ONE, ("g", '{"a": 1}')])),
        ("Let me look. " + call(), ("Let me look. ", [ONE])),
        ("A\n" + call() + "\nB " + call("g"), ("A\nB ", [ONE, ("g", '{"a": 1}')])),
        ('<tool_call>{"name":"f","arguments":{"a":1}}', ("", [ONE])),  # never closed, but whole
        ('<tool_call>{"name":"f","arguments":{"a":1}}</tool', ("", [ONE])),
        ('<tool_call>{"name":"f"}</tool_call>', ("", [("f", "{}")])),
        (call(arguments="null"), ("", [("f", "{}")])),
        (call(arguments='"{\\"a\\": 1}"'), ("", [ONE])),
        (call(arguments='{"t": "</tool_call>{}<tool_call>"}'),
         ("", [("f", '{"t": "</tool_call>{}<tool_call>"}')])),
        (call(arguments='{"t": "é\\u00e9 \\"q\\" \\\\"}'),
         ("", [("f", '{"t": "éé \\"q\\" \\\\"}')])),
        (call(arguments='{"t": "two\nlines"}'), ("", [("f", '{"t": "two\\nlines"}')])),
        (call(arguments='{"t": "\\ud800"}'), ("", [("f", '{"t": "\\ud800"}')])),
    ],
)  # fmt: skip
def test_hermes_calls(text: str, wanted: tuple[str, list[tuple[str, str]]]) -> None:
    assert parse(HERMES, text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>oops</tool_call>",
        '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>',  # one brace is missing
        '<tool_call>{"name": "f", "arguments": {"a": 1}} and more</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "not json"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {"a": "cut o',
        '<tool_call>["f"]</tool_call>',
        "<tool_call>" + '{"a":' * 5_000 + "1" + "}" * 5_000 + "</tool_call>",
        "a < b, <tool_cal",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert parse(HERMES, text) == (text, [])
    begun = parse(HERMES, text + "\n" + call())
    assert begun == (text + "\n", [ONE]) or text.endswith(("<tool_call>", "cut o"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", ("plain", [])),
        (llama(), ("", [ONE])),
        (" \n" + llama() + "\n", ("", [ONE])),
        (llama("f") + "; " + llama("g"), ("", [ONE, ("g", '{"a": 1}')])),
        (llama("f") + ";", ("", [ONE])),
        (llama("f") + "\n" + llama("g"), ("", [ONE, ("g", '{"a": 1}')])),
        ("<|python_tag|>" + llama(), ("", [ONE])),
        ("Well: <|python_tag|>" + llama(), ("Well: ", [ONE])),
        ('{"name": "f", "arguments": {"a": 1}}', ("", [ONE])),
        ('{"name": "Bob", "age": 5}', ('{"name": "Bob", "age": 5}', [])),  # an answer in JSON
        (llama() + " is a call", (llama() + " is a call", [])),
        (llama("f") + "; and", ("; and", [ONE])),
        ("see " + llama(), ("see " + llama(), [])),
        ("<|python_tag|>search(1)", ("<|python_tag|>search(1)", [])),
        ('{"name": "f", "param', ('{"name": "f", "param', [])),
    ],
)
def test_llama_calls(text: str, wanted: tuple[str, list[tuple[str, str]]]) -> None:
    assert parse(LLAMA, text) == wanted


FRAGMENTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<tool", "_call>", "</", "<|python_tag|>", "<|python"),
        *("{", "}", '"', "\\", ":", ";", ",", " ", "\n", "[", "]", "null", "1", "é", "text"),
        *('"name"', '"f"', '"arguments"', '"parameters"', call(), llama(), call("g", "{}")),
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    form=st.sampled_from(ToolFormat),
    text=st.lists(FRAGMENTS, max_size=12).map("".join),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_any_split_gives_the_same(form: ToolFormat, text: str, cuts: list[int]) -> None:
    whole = parse_tool_calls(form, text, ids())
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    for split in (pieces, list(text)):
        parser = ToolCallParser(form, ids())
        parts = [*map(parser.push, split), parser.flush()]
        joined = Parsed("".join(p.text for p in parts), tuple(c for p in parts for c in p.calls))
        assert joined == whole
        assert parser.has_called == bool(whole.calls)
    if not whole.calls:
        assert whole.text == text
    for made in whole.calls:
        assert isinstance(json.loads(made.arguments), dict)


@pytest.mark.parametrize("form", ToolFormat)
def test_no_half_marker_is_ever_told(form: ToolFormat) -> None:
    text = "so: " + ("<|python_tag|>" + llama() if form is LLAMA else call())
    parser = ToolCallParser(form, ids())
    told = "".join(parser.push(char).text for char in text)
    assert told == "so: "


def test_a_text_full_of_bad_calls_is_read_once() -> None:
    """Reading the rest again after each of them would take minutes."""
    for text in ('<tool_call>{"a' * 20_000, '<tool_call>{"":' * 20_000, "<tool_call>{" * 20_000):
        assert parse(HERMES, text)[0] == text


HERMES_TEMPLATE = "{% if tools %}return <tool_call>\\n{...}</tool_call>{% endif %}"
LLAMA_TEMPLATE = '{% if tools %}<|start_header_id|> respond {"name": x, "parameters": y}{% endif %}'


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (HERMES_TEMPLATE, HERMES),
        (LLAMA_TEMPLATE, LLAMA),
        ("{{ messages }}", None),
        (HERMES_TEMPLATE + "<function=name>", None),  # Qwen-Coder writes XML
        ("{{ tools }}[TOOL_CALLS]", None),
    ],
)
def test_the_template_tells_the_format(template: str, form: ToolFormat | None) -> None:
    assert detect_tool_format(template) is form


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "no_op"}},
]


def accepts(grammar: str, text: str) -> bool:
    vocabulary = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(vocabulary, llguidance.LLMatcher.grammar_from_lark(grammar))
    assert not matcher.is_error(), matcher.get_error()
    return (
        matcher.try_consume_tokens(list(text.encode())) == len(text.encode())
        and matcher.is_accepting()
    )


@pytest.mark.parametrize("form", ToolFormat)
def test_a_grammar_takes_what_the_parser_reads(form: ToolFormat) -> None:
    write = call if form is HERMES else llama
    between = "\n" if form is HERMES else "; "
    paris, nothing = write("get_weather", '{"city": "Paris"}'), write("no_op", "{}")
    grammar = tool_call_grammar(form, TOOLS)
    for text in (paris, nothing, paris + between + nothing):
        assert accepts(grammar, text)
        assert len(parse(form, text)[1]) == text.count('"name"')
    refused = ("", "Paris", write("other", "{}"), write("get_weather", "{}"), paris + " so", "{}")
    assert not any(accepts(grammar, text) for text in refused)
    assert not accepts(tool_call_grammar(form, TOOLS, parallel=False), paris + between + nothing)


def test_a_grammar_may_leave_the_choice_to_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    grammar = tool_call_grammar(HERMES, TOOLS, answer_schema=schema)
    assert accepts(grammar, '{"a": 5}')
    assert accepts(grammar, call("no_op", "{}"))
    assert not accepts(grammar, '{"a": "b"}')


@pytest.mark.parametrize("parameters", [{"properties": {"a": {"const": 1}}}, {"minProperties": 1}])
def test_arguments_are_an_object_even_where_no_type_says_so(parameters: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    grammar = tool_call_grammar(HERMES, [tool])
    assert accepts(grammar, call("f", '{"a": 1}'))
    assert not any(accepts(grammar, call("f", text)) for text in ("5", '"a"', "[]", "null"))


def test_schemas_together_too_long_for_a_grammar_are_refused_before_they_are_walked() -> None:
    enum = {"type": "object", "properties": {"a": {"enum": ["x" * 150_000]}}}
    tools = [{"type": "function", "function": {"name": n, "parameters": enum}} for n in "fg"]
    assert tool_call_grammar(HERMES, tools[:1])
    with pytest.raises(InvalidSampling, match="tools takes schemas of at most 262144 characters"):
        tool_call_grammar(HERMES, tools)


def test_calls_are_plain_records() -> None:
    parsed = parse_tool_calls(HERMES, call(), ids())
    assert parsed.calls == (ToolCall("call_0", "f", '{"a": 1}'),)
