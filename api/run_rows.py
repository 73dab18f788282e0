"""Rows of a run as clients read them: what lies as JSON text is what it says. Knows no HTTP."""

from typing import Any

import msgspec

from ..jobs.settings import Settings
from ..jobs.workflow.replanning import plan_of
from ..jobs.workflow.runs.part_ends import PartEnds
from ..jobs.workflow.runs.run_dir import RunDir
from ..jobs.workflow.runs.runs import step_rows
from ..jobs.workflow.typed_columns import PARSED, typed_columns


def rows_of(
    settings: Settings,
    run_id: str,
    step: str | None,
    *,
    after: int = 0,
    limit: int,
    ends: PartEnds | None = None,
) -> list[dict[str, Any]]:
    """Read rows of a step, or of the output; a page behind others with their `ends`.

    Raises:
        UnknownJob: there is no such run.
        CorruptPart: a part is damaged.
    """
    plan = plan_of(RunDir(settings.runs_dir, run_id).read())
    columns = plan.output_columns if step is None else plan.step(step).columns
    documents = {name for name, kind in columns.items() if kind == "json"}
    told_once = {name + PARSED for name in typed_columns(plan)} if step is None else set()
    return [
        {
            name: _document(value) if name in documents else value
            for name, value in row.items()
            if name not in told_once
        }
        for row in step_rows(settings, run_id, step, after=after, limit=limit, ends=ends)
    ]


def _document(text: Any) -> Any:
    return msgspec.json.decode(text) if isinstance(text, str) else text
