"""What a check has found out about a workflow, as clients see it. Knows no service and no file."""

from collections.abc import Mapping
from typing import Any

from ..jobs.workflow.plan import INPUT, Plan, PlannedStep
from ..jobs.workflow.spec import Expand, Join
from .workflow_doubts import doubts_about


def check_object(plan: Plan, served: Mapping[str, int | None] | None) -> dict[str, Any]:
    """Return what is known of each step and of the output; and what is not, or is in doubt.

    `served` are the models that may be asked, and how long their contexts are, as far as a worker
    has told it; with None there is nobody to tell.
    """
    is_known = plan.workflow.inputs.keys() <= plan.inputs.keys()
    return {
        "object": "workflow.check",
        "name": plan.workflow.name,
        "valid": True,
        "columns_known": is_known,
        "steps": [_step(plan, step) for step in plan.steps if not step.is_internal],
        "output": {"from": plan.output_step, "columns": dict(plan.output_columns)},
        "params": dict(plan.params),
        "warnings": [*_unknowns(plan, served), *doubts_about(plan, served or {})],
    }


def _step(plan: Plan, step: PlannedStep) -> dict[str, Any]:
    return {
        "id": step.id,
        "type": type(step.spec).__name__.lower(),
        "from": _sources_of(plan, step),
        "waits_for_all_rows": step.kind == "gather",
        "models": list(step.models),
        "max_children": step.max_children,
        "max": step.spec.max if isinstance(step.spec, Expand | Join) else None,
        "columns": dict(step.columns),
    }


def _unknowns(plan: Plan, served: Mapping[str, int | None] | None) -> list[str]:
    """Say what nobody could look at."""
    missing = [name for name in plan.workflow.inputs if name not in plan.inputs]
    models = sorted({model for step in plan.steps for model in step.models})
    found = []
    if missing:
        found.append(f"columns are not checked: no rows are given of {', '.join(missing)}")
    if models and served is None:
        found.append(f"no server is asked: whether one serves {', '.join(models)} is not known")
    elif models and not served:
        found.append(f"nothing is served now: nobody can tell whether {', '.join(models)} will be")
    return found


def _sources_of(plan: Plan, step: PlannedStep) -> list[str]:
    """Name whose rows a step takes, as its author knows them: not a step that the plan added."""
    found: list[str] = []
    for source in step.sources:
        is_ours = not source.startswith(INPUT) and plan.step(source).is_internal
        found += plan.step(source).sources if is_ours else [source]
    return found
