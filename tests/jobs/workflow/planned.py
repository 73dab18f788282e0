"""Plans of one step, written down by hand: what the step does is tested, not how it is planned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.jobs.workflow.computing import gather, local
from penstock.jobs.workflow.plan import Plan, PlannedStep
from penstock.jobs.workflow.row import Applied, Fault, Row
from penstock.jobs.workflow.spec import Output, Retries, Step, Workflow
from penstock.jobs.workflow.tools import NO_TOOLS, Tools

MODEL = "m"


def step_of(**fields: Any) -> Step:
    """Read a step as a workflow writes it."""
    return msgspec.convert({"id": "s", **fields}, Step)


def planned(spec: Step, columns: Sequence[str] = (), **more: Any) -> PlannedStep:
    """Plan a step whose rows have these columns."""
    facts: dict[str, Any] = {
        "id": spec.id,
        "kind": "local",
        "sources": ("inputs.rows",),
        "region": 0,
        "columns": dict.fromkeys(columns, "json"),
        "on_error": spec.on_error or "keep",
        "models": (MODEL,),
        "sampling": getattr(spec, "sampling", None),
        "schema": getattr(spec, "schema", None),
        "retries": getattr(spec, "retries", None) or Retries(),
    }
    return PlannedStep(spec=spec, **{**facts, **more})


def plan_of(*steps: PlannedStep, params: Mapping[str, Any] | None = None) -> Plan:
    """Plan a workflow of such steps."""
    workflow = Workflow("w", tuple(step.spec for step in steps))
    return Plan(workflow, params or {}, steps, {"rows": {}}, Output(), steps[-1].id, {}, 64)


def applied(
    spec: Step,
    *sources: list[Row],
    columns: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    tools: Tools = NO_TOOLS,
) -> Applied:
    """Do a local step's work."""
    step = planned(spec, columns)
    return local.apply(plan_of(step, params=params), step, sources, tools)


def gathered(
    scratch: Path, spec: Step, *sources: list[Row], columns: Sequence[str] = ()
) -> Applied:
    """Do the work of a step on all rows."""
    step = planned(spec, columns)
    made = gather.gather(plan_of(step), step, sources, scratch)
    rows = list(made)
    return Applied(rows, made.faults, made.num_dropped)


def rows_of(*values: Mapping[str, Any]) -> list[Row]:
    """Make rows 0, 1, …"""
    return [Row(str(index), each) for index, each in enumerate(values)]


def column(found: Applied, name: str) -> dict[str, Any]:
    """Return a column, by the ids of the rows."""
    return {row.row_id: row.values.get(name) for row in found.rows}


def codes(faults: Sequence[Fault]) -> dict[str, str]:
    """Return what failed, and why."""
    return {fault.row_id: fault.error.code for fault in faults}
