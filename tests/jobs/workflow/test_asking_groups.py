"""Groups become prompts: one for a small one, and chunks in rounds for a large one."""

from collections.abc import Sequence

import pytest

from penstock.jobs.workflow.asking.fold import merged_column
from penstock.jobs.workflow.asks import Answer, Ask
from penstock.jobs.workflow.plan import GROUPS, ROWS, Plan, PlannedStep
from penstock.jobs.workflow.row import Row
from penstock.jobs.workflow.tools import MissingTool, Tools

from .planned import codes, column, plan_of, planned, step_of
from .talks import echo, failed, keys, meta_of, said, talk


def groups(*lists: Sequence[str], **fold: int) -> tuple[Plan, PlannedStep, list[Row]]:
    """Plan a reduce over the column `part`, with groups as its other half brings them."""
    prompt = "{{ row.q }}:{% for r in rows %} {{ r.part }}{% endfor %}"
    spec = step_of(type="reduce", prompt=prompt, **({"fold": fold} if fold else {}))
    before = planned(step_of(id="part", type="generate", prompt="x"), ["q", "part"], kind="ask")
    own = planned(spec, ["q", ROWS], id=f"s{GROUPS}", sources=("part",), is_internal=True)
    step = planned(spec, ["q", "s", "s__meta"], kind="ask", sources=(f"s{GROUPS}",))
    rows = [
        Row(str(index), {"q": "merge", ROWS: [{"part": part} for part in parts]})
        for index, parts in enumerate(lists)
    ]
    return plan_of(before, own, step), step, rows


def test_a_group_is_one_prompt() -> None:
    plan, step, rows = groups(["a", "b"], ["c"])
    found, rounds = talk(plan, step, rows, echo)
    assert [ask.body["prompt"] for ask in rounds[0]] == ["merge: a b", "merge: c"]
    assert column(found, "s") == {"0": "<merge: a b>", "1": "<merge: c>"}
    assert found.rows[0].values.keys() == {"q", "s", "s__meta"}


def test_a_group_whose_rows_were_too_many_fails_there() -> None:
    plan, step, rows = groups(["a"], ["b"])
    found, rounds = talk(plan, step, [rows[0], Row("1", {"q": "merge", ROWS: None})], echo)
    assert keys(rounds) == [["0"]]
    assert codes(found.faults) == {"1": "group_too_large"}


def short(ask: Ask) -> Answer:
    """Answer with the first letters of what is merged."""
    return said("".join(word[0] for word in ask.body["prompt"].split()[1:]))


def test_a_large_group_is_merged_in_rounds() -> None:
    plan, step, rows = groups("abcdefghijk", "xy", max_rows=3)
    found, rounds = talk(plan, step, rows, short)
    assert [[ask.body["prompt"].removeprefix("merge: ") for ask in asks] for asks in rounds] == [
        ["a b c", "d e f", "g h i", "j k", "x y"],
        ["abc def ghi"],
        ["adg jk"],
    ]
    assert keys(rounds) == [["0:0.0", "0:0.1", "0:0.2", "0:0.3", "1"], ["0:1.0"], ["0"]]
    assert column(found, "s") == {"0": "aj", "1": "xy"}
    assert meta_of(found, "0")["attempts"] == 6


def test_a_chunk_holds_as_many_tokens_as_it_may() -> None:
    tools = Tools(lambda text, _: range(4 * len(text.split())))
    plan, step, rows = groups(["a", "b c d e f g", "h", "i", "j", "k"], max_tokens=20)
    _, rounds = talk(plan, step, rows, short, tools=tools)
    assert [ask.body["prompt"].removeprefix("merge: ") for ask in rounds[0]] == [
        "a b c d e f g",  # two rows at least, or there would be no end
        "h i j k",
    ]
    plan, step, rows = groups("abcde", max_tokens=16)  # 4 of the prompt, 4 more of each row
    _, rounds = talk(plan, step, rows, short, tools=tools)
    assert [ask.body["prompt"].removeprefix("merge: ") for ask in rounds[0]] == ["a b c", "d e"]
    with pytest.raises(MissingTool):
        talk(plan, step, rows, short)


def test_a_chunk_that_fails_fails_its_group_alone() -> None:
    def model(ask: Ask) -> Answer:
        return failed("engine_error") if " c" in ask.body["prompt"] else short(ask)

    plan, step, rows = groups("abcd", "wxyz", max_rows=2)
    found, _ = talk(plan, step, rows, model)
    assert codes(found.faults) == {"0": "engine_error"}
    assert column(found, "s") == {"0": None, "1": "wy"}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("{% for r in rows %}{{ r.chunk.index }} {{ r.part }}{% endfor %}", "part"),
        ("{% for r in rows %}{{ r.chunk.text }}{% endfor %}", "chunk"),
        ("{{ rows | map(attribute='part') | join }} {{ rows[0].score.value }}", "score"),
        ("{{ row.part }}{{ rows | length }}", None),
        ("{% for r in rows %}{{ r.q }}{% endfor %}", None),  # all of a group have it in common
    ],
)
def test_merged_answers_go_where_the_prompt_finds_them(prompt: str, expected: str | None) -> None:
    columns = ["q", "q__meta", "chunk", "part", "part__meta", "score", "score__meta"]
    assert merged_column([prompt], columns, ["q", "q__meta"]) == expected
