"""YAML that is read as plain data, and everything else about YAML that is refused by its place."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from penstock.api.workflow_yaml import MAX_BYTES, MAX_NODES, InvalidYaml, read_yaml, write_yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["on", "no", "12:30", "2024-01-01", "0x1f", "1e5", "~", "null", "<<", "="])
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_what_is_written_is_read_again(document: Any) -> None:
    found = read_yaml(write_yaml(document))
    assert found == document
    assert repr(found) == repr(document)  # 1 and True and 1.0 are equal, and not the same


def test_words_and_times_stay_texts() -> None:
    text = "on: no\nyes: 12:30\nday: 2024-01-31\nhex: 0x1f\nthousand: 1_000\n"
    assert read_yaml(text) == {
        "on": "no", "yes": "12:30", "day": "2024-01-31", "hex": "0x1f", "thousand": "1_000",
    }  # fmt: skip


def test_json_is_yaml() -> None:
    assert read_yaml('{"a": [1, 2.5, null, true, "x\\n"], "b": {}}') == {
        "a": [1, 2.5, None, True, "x\n"], "b": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, 3, "the key 'c' occurs twice"),
        ("a: &x [1]\nb: *x\n", 1, 4, "anchors and aliases are not read here"),
        ("b: *x\n", 1, 4, "anchors and aliases are not read here"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, 4, "tags are not read here"),
        ("!!set {a, b}\n", 1, 1, "tags are not read here"),
        ("%TAG ! tag:x,2000:\n---\na: !y z\n", 3, 4, "tags are not read here"),
        ("1: a\n", 1, 1, "a key must be a text, got 1"),
        ("prompt: {{ row.text }}\n", 1, 10, "quote texts that begin with {"),
        ("a: .inf\n", 1, 4, "not a finite number"),
        ("a: -.INF\n", 1, 4, "not a finite number"),
        ("a: .nan\n", 1, 4, "not a finite number"),
        ("a: 1e999\n", 1, 4, "not a finite number"),
        ("a: 9223372036854775808\n", 1, 4, "at most 64 bits"),
        (f"a: {'9' * 10_000}\n", 1, 4, "a number has 10,000 digits"),
        ('a: "\\ud800"\n', 1, 4, "half a surrogate pair"),
        ('a: "\\UFFFFFFFF"\n', 1, 7, "names no character"),
        ("a: \x07\n", 1, 4, "'\\x07' may not stand in YAML"),
        ("a:\n\t- b\n", 2, 1, "cannot start any token"),
        ("a: [1, 2\n", 2, 1, "expected ',' or ']'"),
        ("a: b: c\n", 1, 5, "mapping values are not allowed here"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second value begins here"),
        ('{"a": 1}\n{"a": 2}\n', 2, 1, "a second value begins here"),
        ("", 1, 1, "it is empty"),
        ("# nothing\n", 2, 1, "it is empty"),
    ],
)
def test_what_is_refused_is_named_by_its_place(
    text: str, line: int, column: int, says: str
) -> None:
    with pytest.raises(InvalidYaml) as caught:
        read_yaml(text, source="a.yaml")
    assert str(caught.value).startswith(f"a.yaml, line {line}, column {column}: ")
    assert (caught.value.line, caught.value.column) == (line, column)
    assert says in caught.value.reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested more than 40 levels deep"),
        ("{a: " * 100_000, "nested more than 40 levels deep"),
        ("- " * 100_000, "nested more than 40 levels deep"),
        ("- a\n" * (MAX_NODES + 1), "more than 50,000 values"),
        ("x" * (MAX_BYTES + 1), "1,048,576 may be"),
        (b"\xff\xfe", "no UTF-8"),
    ],
)
def test_bombs_are_refused_before_they_cost_anything(text: str | bytes, says: str) -> None:
    with pytest.raises(InvalidYaml, match=says):
        read_yaml(text)


def test_a_billion_laughs_do_not_unfold() -> None:
    rows = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(InvalidYaml, match="anchors and aliases"):
        read_yaml("l0: &l0 [lol]\n" + "\n".join(rows))
