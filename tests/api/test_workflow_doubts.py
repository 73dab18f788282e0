"""What a workflow is warned of that may run as it is."""

from typing import Any

import pytest

from penstock.api.workflow_check import check_object
from penstock.jobs.workflow.checks.check import check_document

COLUMNS: dict[str, dict[str, Any]] = {"texts": {"text": "string"}}


def warned(step: dict[str, Any], contexts: dict[str, int | None]) -> list[str]:
    document = {
        "name": "doubtful",
        "inputs": {"texts": {"type": "dataset"}},
        "params": {"style": "plain", "longest": 512},
        "steps": [{"id": "a", "type": "generate", "model": "m", **step}],
    }
    plan = check_document(document, {}, COLUMNS, served=contexts)
    return check_object(plan, contexts)["warnings"]


@pytest.mark.parametrize(
    ("step", "is_one"),
    [
        ({"prompt": "Tell a story."}, True),
        ({"prompt": "Tell a {{ params.style }} story."}, True),
        ({"messages": [{"role": "user", "content": "row.text"}]}, True),
        ({"type": "embed", "text": "the same"}, True),
        ({"prompt": "Sum up: {{ row.text }}"}, False),
        ({"prompt": "{% for name in row %}{{ name }}{% endfor %}"}, False),
    ],
)
def test_a_prompt_that_reads_no_row_is_told_of(step: dict[str, Any], is_one: bool) -> None:
    said = "steps.a names no column: all of its rows get the same prompt"
    assert warned(step, {"m": None}) == [said] * is_one


def test_answers_as_long_as_the_context_are_told_of_where_it_is_known() -> None:
    step = {"prompt": "{{ row.text }}", "sampling": {"max_tokens": "{{ params.longest }}"}}
    [said] = warned(step, {"m": 512})
    assert "max_tokens=512 leaves no room" in said
    assert "is 512 tokens" in said
    assert warned(step, {"m": 513}) == warned(step, {"m": None}) == []
