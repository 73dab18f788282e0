"""A workflow for the made-up engine, which says what its prompt tells it to say."""

from typing import Any

import httpx2

from tests.waiting import wait_for

from .conftest import MODEL

# Each text is said twice, with its number behind it; the longer of both stays.
WORKFLOW: dict[str, Any] = {
    "version": 1,
    "name": "said-twice",
    "inputs": {"texts": {"type": "dataset", "columns": {"text": "string", "size": "int64"}}},
    "params": {"mark": "!"},
    "defaults": {"model": MODEL},
    "steps": [
        {
            "id": "copy",
            "type": "expand",
            "from": "inputs.texts",
            "explode": "[row.size, row.size + 1]",
        },
        {
            "id": "said",
            "type": "generate",
            "prompt": '[[say]]{"text": "{{ row.text }}{{ params.mark }}", '
            '"size": {{ row.copy.value }}}',
            "schema": {"text": "string", "size": "int"},
            "sampling": {"max_tokens": 200},
        },
        {
            "id": "largest",
            "type": "reduce",
            "group_by": "parent",
            "pick": {"max": "row.said.size"},
        },
        {"id": "small", "type": "filter", "where": "row.said.size < 100"},
    ],
    "output": {"from": "small", "select": ["text", "said"]},
}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"text": f"t{number}", "size": number} for number in range(count)]


def wait(http: httpx2.Client, run_id: str) -> dict[str, Any]:
    """Wait until a run has ended."""

    def ended() -> dict[str, Any] | None:
        run = http.get(f"/v1/workflows/runs/{run_id}", params={"wait": 5}).json()
        return run if run["finished_at"] is not None else None

    return wait_for(ended, "the run's end")


def endless() -> dict[str, Any]:
    """A workflow that goes on until somebody stops it."""
    steps = [{"id": "say", "type": "generate", "prompt": "[[long]] {{ row.text }}"}]
    return {**WORKFLOW, "name": "endless", "steps": steps, "output": {}}
