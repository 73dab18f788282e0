import time

import pytest

from penstock.jobs.model import Message, TaskSpec
from penstock.jobs.templates import Prompt, RenderError, Template, TemplateError, render_task

from .memory import peak_growth_mb

ROW = {
    "text": "hello",
    "items": ["b", "a"],
    "n": 3,
    "big": "x" * 900_000,
    "object": {"key": "value"},
    "numbers": list(range(5_000)),
    "nested": [[["x" * 10] * 50] * 50] * 50,
    "nothing": None,
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain {text}\n", "plain {text}\n"),
        ("{{ row.text }}", "hello"),
        ("{{ row['text'] | upper }}", "HELLO"),
        ("{{ row.items | join(', ') }}", "b, a"),  # the column, not dict.items
        ("{{ row.items | sort | first }}", "a"),
        ("{% for x in row.items %}{{ loop.index }}{{ x }} {% endfor %}", "1b 2a "),
        ("{% for k, v in row.object.items() %}{{ k }}={{ v }}{% endfor %}", "key=value"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ row.text ~ '!' ~ row.n }}", "hello!3"),
        ("{{ row.n * 2 + 1 }} {{ row.n % 2 }} {{ row.n / 2 }}", "7 1 1.5"),
        ("{{ 'many' if row.n > 2 else 'few' }}", "many"),
        ("{{ row.missing | default('none') }}", "none"),
        ("{{ row.get('missing', 'none') }}", "none"),
        ("{{ row.object | tojson }} {{ 'é<' | tojson }}", '{"key": "value"} "é<"'),
        ("{{ row.text[:2] }}{{ row.text.upper() }}", "heHELLO"),
        ("{% set first = row.items[0] %}{{ first }}", "b"),
        ("{{ row.items | map('upper') | join }}", "BA"),
        ("{{ row.numbers | select('lt', 3) | sum }}", "3"),
        ("{{ 2.345 | round(1) }} {{ row.nothing is none }}", "2.3 True"),
        ("{{ row.text | replace('l', 'L') }}", "heLLo"),
        ("{{ custom_id }}", "doc-7"),
        ("<b>{{ '<i>' }}</b>", "<b><i></b>"),  # a prompt is no web page
    ],
)
def test_what_a_template_can_do(text: str, rendered: str) -> None:
    assert Template.compile(text).render(ROW, "doc-7") == rendered


def test_the_columns_that_a_template_uses() -> None:
    text = "{{ row.a }} {{ row['b c'] | upper }} {% if row.d.e %}{% endif %} {{ custom_id }}"
    assert Template.compile(text).columns == {"a", "b c", "d"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ row.text", "line 1: unexpected end of template"),
        ("\n\n{% if %}", "line 3: Expected an expression"),
        ("{{ text }}", "unknown name 'text'; a column is called row.text"),
        ("{{ row.text | center(1000000000) }}", "No filter named 'center'"),
        ("{{ row | attr('__class__') }}", "No filter named 'attr'"),
        ("{{ ''.__class__ }}", "'__class__' is out of a template's reach"),
        ("{{ row.text.__class__.__mro__ }}", "is out of a template's reach"),
        ("{{ 9 ** 9 ** 9 }}", "pow is not available"),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "macro is not available"),
        ("{% include '/etc/passwd' %}", "include is not available"),
        ("{% import 'os' as os %}", "import is not available"),
        ("{% for x in row.items recursive %}{{ loop(x) }}{% endfor %}", "recursive loops"),
        ("{% filter upper %}a{% endfilter %}", "not available"),
        ("{{ self }}", "'self' is not available"),
        ("{{ _budget }}", "'_budget' is not available"),
        ("{{ row.text | _metered }}", "not available"),
        ("{{ namespace(a=1) }}", "unknown name 'namespace'"),
        ("{{ lipsum(n=1000) }}", "unknown name 'lipsum'"),
        ("{{" + "(" * 5_000 + "1" + ")" * 5_000 + "}}", "nested too deeply"),
        ("x" * 100_001, "a template may have 100000 characters"),
    ],
)
def test_what_no_template_may_say(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.compile(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ row.missing }}", "there is no 'missing'|has no attribute 'missing'"),
        ("{{ row['missing'] }}", "missing"),
        ("{{ row.copy }}", "there is no 'copy'"),
        ("{{ row.values }}", "'values', which is no column here but a function"),
        ("{{ row.text.upper }}", "'upper', which is no column here but a function"),
        ("{{ row.nothing }}", "it prints a null"),
        ("{{ row.text ~ row.nothing }}", "it prints a null"),
        ("{{ [row.text, row.nothing] | join(', ') }}", "it prints a null"),
        ("{{ row.nothing | upper }}", "it prints a null"),
        ("{{ row.nothing | truncate(10) }}", "it prints a null"),
        ("{{ row.nothing | replace('N', 'n') }}", "it prints a null"),
        ("{{ [row.nothing] | map('lower') | first }}", "it prints a null"),
        ("{{ row.text ~ row.text.upper }}", "'upper', which is no column here but a function"),
        ("{{ [row.values] }}", "'values', which is no column here but a function"),
        ("{{ {'a': (1, row.get)} }}", "'get', which is no column here but a function"),
        ("{{ {row.get: 1} | string }}", "'get', which is no column here but a function"),
        ("{{ {'a': row.keys}.values() }}", "'keys', which is no column here but a function"),
        ("{{ [[row.values]] | join }}", "'values', which is no column here but a function"),
        ("{{ row.items | map('upper') }}", "prints a generator; write `| list` or `| join"),
        ("{{ [row.missing] }}", "there is no 'missing'|has no attribute 'missing'"),
        ("{% set x = [1] %}" + "{% set x = [x, x] %}" * 25 + "{{ x }}", "longer than 1000000"),
        (
            "{% set x = [1] %}{% set y = [1] %}"
            + "{% set x = [x, x] %}{% set y = [y, y] %}" * 28
            + "{{ [x].count(y) }}",
            "steps",
        ),
        ("{{ row.n + row.text }}", "unsupported operand"),
        ("{{ row.n // 0 }}", "by zero"),
        ("{{ 'a' * 5e7 }}", "works on numbers only"),
        ("{{ 'a' * 50000000 }}", "works on numbers only"),
        ("{{ [1] * 50000000 }}", "works on numbers only"),
        ("{{ '%1000000000d' % 1 }}", "works on numbers only"),
        ("{{ '{:1000000000}'.format(1) }}", "cannot be called"),
        ("{{ 'a'.ljust(1000000000) }}", "cannot be called"),
        ("{{ row.__class__ }}", "__class__"),
        ("{{ row['__class__'] }}", "__class__"),
        ("{{ row.update({'text': 1}) }}", "cannot be called"),
        ("{{ row.items.append(1) }}", "cannot be called"),
        ("{{ range(999999999) | list }}", "range may have 10000 numbers"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "steps"),
        ("{% for a in row.numbers %}{% if a in row.numbers %}{% endif %}{% endfor %}", "steps"),
        (
            "{% for a in range(9999) %}{% if row.nested == row.nested %}{% endif %}{% endfor %}",
            "ste",
        ),
        ("{% for a in range(9999) %}{% set b = row.big[1:] %}{% endfor %}", "steps"),
        ("{{ row.numbers | select('in', row.numbers) | list | length }}", "steps"),
        ("{{ row.nested | sum(start=[]) }}", "sum"),
        ("{{ row.big }}{{ row.big }}", "longer than 1000000"),
        ("{{ row.big + row.big }}", "longer than 1000000"),
        ("{% set x = row.big %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}", "longer than 1000000"),
        ("{{ [row.big, row.big] | join }}", "longer than 1000000"),
        ("{{ row.big | replace('x', 'yyyyyyyyyyyyyyyy') }}", "longer than 1000000"),
        ("{{ row | tojson(indent=999999999) }}", "indent"),
    ],
)
def test_a_row_that_cannot_be_rendered_costs_little(text: str, complaint: str) -> None:
    template = Template.compile(text)
    began_s = time.process_time()

    def render() -> None:
        with pytest.raises(RenderError, match=complaint):
            template.render(ROW)

    assert peak_growth_mb(render) < 50
    assert time.process_time() - began_s < 20  # without its bounds, hours


def test_a_list_is_printed_as_python_writes_it() -> None:
    row = {"list": ["a", None, {"b": [1, True]}], "values": "a column"}
    template = Template.compile("{{ row.list }} {{ [row.values, 1.5] }} {{ range(3) | list }}")
    assert template.render(row) == "['a', None, {'b': [1, True]}] ['a column', 1.5] [0, 1, 2]"


def test_a_row_is_never_changed() -> None:
    row = {"items": [1], "text": "a"}
    template = Template.compile("{% set x = row.items + [2] %}{{ x | join(',') }}")
    assert template.render(row) == "1,2"
    assert row == {"items": [1], "text": "a"}


def test_a_task_renders_its_prompt_or_its_messages() -> None:
    task = TaskSpec(model="m", prompt="Say {{ row.text }}", endpoint="/v1/completions")
    assert render_task(task, ROW) == Prompt("Say hello", None, "/v1/completions")
    messages = (Message("system", "Be brief."), Message("user", "{{ row.text }} {{ custom_id }}"))
    assert render_task(TaskSpec(model="m", messages=messages), ROW, "id1").messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello id1"},
    )


def test_without_a_template_each_row_brings_its_own() -> None:
    task = TaskSpec(model="m")
    assert render_task(task, {"prompt": "{{ not a template }}"}).text == "{{ not a template }}"
    messages = [{"role": "user", "content": "hi"}]
    row = {"messages": messages, "prompt": "unused"}
    assert render_task(task, row).messages == ({"role": "user", "content": "hi"},)


def test_a_conversation_of_its_own_may_call_tools() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    rendered = render_task(TaskSpec(model="m"), {"messages": messages}).messages
    assert rendered == ({**messages[0], "role": "system"}, *messages[1:])


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"other": 1}, "neither a text in `prompt` nor a list in `messages`"),
        ({"prompt": 7}, "neither"),
        ({"messages": []}, "messages must be a list of at least one"),
        ({"messages": "hi"}, "messages must be a list"),
        ({"messages": ["hi"]}, r"messages\[0\] must be an object"),
        ({"messages": [{"role": "king", "content": "x"}]}, r"messages\[0\].role must be one of"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, r"messages\[0\].role must be one of"),
        ({"messages": [{"role": "user", "content": [1]}]}, r"messages\[0\].content must be a text"),
    ],
)
def test_a_row_without_a_usable_prompt_fails_alone(row: dict, complaint: str) -> None:
    with pytest.raises(RenderError, match=complaint) as caught:
        render_task(TaskSpec(model="m"), row)
    error = caught.value.to_request_error()
    assert (error.code, error.stage) == ("invalid_request", "render")


def test_a_null_is_an_error_and_not_the_word_none() -> None:
    template = Template.compile("Say {{ row.q }}!")
    with pytest.raises(RenderError, match=r"it prints a null; write `\| default\('', true\)`"):
        template.render({"q": None})
    forgiving = Template.compile("Say {{ row.q | default('', true) }}!")
    assert forgiving.render({"q": None}) == "Say !"
    assert Template.compile("{% if row.q is none %}-{% endif %}").render({"q": None}) == "-"
