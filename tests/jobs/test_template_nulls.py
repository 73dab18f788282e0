"""Where a template prints a null, the row's error names what is null."""

from typing import Any

import pytest

from penstock.jobs.templates import RenderError, Template


@pytest.mark.parametrize(
    ("text", "row", "named"),
    [
        ("{{ row.a }} {{ row.q }}", {"a": "x", "q": None}, "row.q"),
        ("{{ row.a }} {{ row.q }}", {"a": None, "q": None}, "row.a, row.q"),
        ("{{ row['two words'] }}", {"two words": None}, "row['two words']"),
        ("{{ row.judge.score }}", {"judge": {"score": None, "why": None}}, "row.judge.score"),
        ("{% for r in row.parts %}{{ r.n }}{% endfor %}", {"parts": [{"n": 1}, {"n": None}]},
         "row.parts[].n"),
        ("{{ row.q | upper }}", {"q": None, "other": None}, "row.q"),
        ("{{ row.q ~ '!' }}", {"q": None}, "row.q"),
        ("{{ custom_id }}", {"q": None}, "custom_id"),
    ],
)  # fmt: skip
def test_what_is_null_is_named(text: str, row: dict[str, Any], named: str) -> None:
    with pytest.raises(RenderError) as caught:
        Template.compile(text).render(row)
    assert str(caught.value) == (
        "the template cannot be rendered: it prints a null; write `| default('', true)` where null "
        f"may stand (null in this row: {named})"
    )


def test_what_cannot_be_told_is_left_out() -> None:
    with pytest.raises(RenderError, match=r"where null may stand$"):
        Template.compile("{{ none }}").render({"q": "x"})
    with pytest.raises(RenderError, match=r"where null may stand$"):
        Template.compile("{{ {'a': row.q.b}.get('c') }}").render({"q": {"b": 1}})


def test_no_more_is_named_than_a_person_reads() -> None:
    names = [f"c{n}" for n in range(9)]
    text = "".join(f"{{{{ row.{name} }}}}" for name in names)
    with pytest.raises(RenderError, match=r"row\.c4 and 4 more\)$"):
        Template.compile(text).render(dict.fromkeys(names))
