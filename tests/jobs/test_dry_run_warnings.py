"""What a dry run warns of, and what it has no reason to."""

from typing import Any

import pytest

from penstock.jobs.dry_run_warnings import warnings_of
from penstock.jobs.model import EMBED, Message, TaskSpec
from penstock.jobs.submit_request import SubmitRequest


def warned(
    columns: list[str],
    *,
    num_rows: int = 3,
    context_window: int | None = 100,
    id_column: str | None = None,
    **task: Any,
) -> list[str]:
    request = SubmitRequest(TaskSpec(model="m", **task), id_column=id_column)
    return warnings_of(request, columns, num_rows, context_window)


def test_a_template_that_names_no_column_makes_one_prompt_of_all_rows() -> None:
    [said] = warned(["id", "my text"], prompt="Tell a story.", id_column="id", num_rows=1_200)
    assert said == (
        "the template names no column: all 1,200 rows get the same prompt (columns: id, my text); "
        "write {{ row['my text'] }} where a row's own value belongs"
    )
    [said] = warned(["t"], messages=(Message("system", "Be brief."), Message("user", "row.t")))
    assert said.startswith("the messages name no column: all 3 rows get the same prompt")
    assert "write {{ row.t }} where" in said


def test_a_template_that_passes_the_only_column_over_is_told_of() -> None:
    [said] = warned(["text"], prompt="Number {{ custom_id }}")
    assert said.startswith("the input's only column, 'text', is used nowhere: write {{ row.text }}")


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "Say {{ row.t }}"},
        {"prompt": "Say {{ row['t'] }}"},
        {"prompt": "{% for name in row %}{{ name }}{% endfor %}"},
        {"prompt": "{% set r = row %}{{ r.t }}"},
        {"prompt": "Hello", "num_rows": 1},
        {"prompt": "Number {{ custom_id }}", "columns": ["t", "u"]},
        {"prompt": "Number {{ custom_id }}", "id_column": "t"},
        {"messages": (Message("system", "Be brief."), Message("user", "{{ row.t }}"))},
        {"columns": ["prompt"]},
    ],
)
def test_what_reads_its_row_is_not_doubted(changes: dict[str, Any]) -> None:
    assert warned(**{"columns": ["t"], **changes}) == []


def test_answers_as_long_as_the_context_are_told_of_where_it_is_known() -> None:
    ask = {"columns": ["t"], "prompt": "{{ row.t }}", "sampling": {"max_tokens": 100}}
    [said] = warned(**ask)
    assert "max_tokens=100 is not less than the context of 100 tokens" in said
    assert warned(**ask, context_window=101) == warned(**ask, context_window=None) == []
    assert warned(["t"], prompt="{{ row.t }}", endpoint=EMBED) == []
