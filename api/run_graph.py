"""The steps of a run as a graph: who takes whose rows. Knows plans, no run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..jobs.workflow.plan import INPUT

if TYPE_CHECKING:
    from ..jobs.workflow.plan import Plan, PlannedStep

OUTPUT = "(output)"  # no step can be called that


def graph_object(run_id: str, plan: "Plan") -> dict[str, Any]:
    """Return nodes in an order in which each comes after its sources, and the edges between them.

    A node's id is that of the step; inputs have `inputs.` before their name. What the plan added
    for itself is left out: its sources lead to whoever takes its rows.
    """
    inputs = [
        {"id": INPUT + name, "kind": "input", "label": name, "type": None} for name in plan.inputs
    ]
    written = [step for step in plan.steps if not step.is_internal]
    steps = [
        {
            "id": step.id,
            "kind": "step",
            "label": step.id,
            "type": type(step.spec).__name__.lower(),
        }
        for step in written
    ]
    edges = [
        {"from": source, "to": step.id}
        for step in written
        for source in dict.fromkeys(_sources(plan, step))
    ]
    output = {"id": OUTPUT, "kind": "output", "label": "output", "type": None}
    return {
        "object": "workflow.graph",
        "run_id": run_id,
        "nodes": [*inputs, *steps, output],
        "edges": [*edges, {"from": plan.output_step, "to": OUTPUT}],
    }


def _sources(plan: "Plan", step: "PlannedStep") -> Iterator[str]:
    for source in step.sources:
        if not source.startswith(INPUT) and (before := plan.step(source)).is_internal:
            yield from _sources(plan, before)
        else:
            yield source
