import pytest

from penstock.jobs.template_paths import TemplatePath
from penstock.jobs.templates import RenderError, Template, TemplateError

NAMES = frozenset({"row", "params", "rows"})


def paths(text: str) -> set[TemplatePath]:
    return set(Template.compile(text, NAMES).paths)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ row.judge.score }}", {("row", "judge", "score")}),
        ("{{ row['a b'].c }}", {("row", "a b", "c")}),
        ("{{ row.list[0].x }}", {("row", "list", None, "x")}),
        ("{{ row.text[:9] | upper }}", {("row", "text")}),
        ("{{ row.text.upper() }}", {("row", "text")}),  # a method is no field
        ("{% for r in rows %}{{ r.x }}{% endfor %}", {("rows",), ("rows", None, "x")}),
        (
            "{% for r in rows | sort(attribute='n') %}{{ r.x }}{{ loop.index }}{% endfor %}",
            {("rows",), ("rows", None, "n"), ("rows", None, "x")},
        ),
        (
            "{{ row.lines | sum(attribute='a.b') }}",
            {("row", "lines"), ("row", "lines", None, "a", "b")},
        ),
        (
            "{{ rows | selectattr('ok') | map(attribute='x') | join }}",
            {("rows",), ("rows", None, "ok"), ("rows", None, "x")},
        ),
        (
            "{{ (rows | first).x }}",
            {("rows",), ("rows", None), ("rows", None, "x")},
        ),
        (
            "{% set j = row.judge %}{{ j.score }}",
            {("row", "judge"), ("row", "judge", "score")},
        ),
        ("{{ row.a if row.b else params.c }}", {("row", "a"), ("row", "b"), ("params", "c")}),
        ("{{ row.a[row.b] }}", {("row", "a"), ("row", "b")}),
        ("{% for k, v in row.o.items() %}{{ v.x }}{% endfor %}", {("row", "o")}),
        (
            "{% set x = row.a %}{% if row.b %}{% set x = row.c %}{% endif %}{{ x.d }}",
            {("row", "a"), ("row", "b"), ("row", "c")},  # which of them has a `d`, is not known
        ),
        (
            "{% set x = row.a %}{% for r in rows %}{{ x.d }}{% set x = r %}{% endfor %}",
            {("row", "a"), ("rows",), ("rows", None)},
        ),
        ("{% set row = 1 %}{{ row.foo }}", set()),
    ],
)
def test_what_a_template_reads(text: str, found: set[TemplatePath]) -> None:
    assert paths(text) == found


def test_a_template_may_use_the_names_it_is_given() -> None:
    template = Template.compile("{{ row.a }}{{ params.b }}{{ rows | length }}", NAMES)
    assert template.render_in({"row": {"a": 1}, "params": {"b": 2}, "rows": [3, 4]}) == "122"
    with pytest.raises(RenderError, match=r"no attribute 'b'|there is no 'b'"):
        template.render_in({"row": {"a": 1}, "params": {}, "rows": []})
    with pytest.raises(TemplateError, match="unknown name 'params'"):
        Template.compile("{{ params.b }}")
    with pytest.raises(TemplateError, match="unknown name 'custom_id'"):
        Template.compile("{{ custom_id }}", NAMES)
