"""Workflows as their authors write them, checked: planned, or told what is wrong."""

from collections.abc import Mapping
from typing import Any

import yaml

from penstock.jobs.workflow.checks.check import InvalidWorkflow, check, check_alone, read_workflow
from penstock.jobs.workflow.plan import ColumnKind, Plan
from penstock.jobs.workflow.spec import Workflow

COLUMNS: Mapping[str, ColumnKind] = {
    "text": "string",
    "n": "int64",
    "x": "float64",
    "yes": "bool",
    "data": "json",
}


def workflow_of(steps: str, **more: Any) -> Workflow:
    """Read steps, each a line of YAML, over one input `rows`."""
    listed = [yaml.safe_load(f"{{{line.strip()}}}") for line in steps.strip().splitlines()]
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "m"}, "steps": listed}
    return read_workflow({**document, **more})


def plan_of(steps: str, given: Mapping[str, Any] | None = None, **more: Any) -> Plan:
    """Plan steps over an input with `COLUMNS`."""
    workflow = workflow_of(steps, **more)
    return check(workflow, given or {}, dict.fromkeys(workflow.inputs, COLUMNS))


def problems_of(
    steps: str, given: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, list[str]]:
    """Return what is wrong, by place."""
    try:
        plan_of(steps, given, **more)
    except InvalidWorkflow as error:
        found: dict[str, list[str]] = {}
        for problem in error.problems:
            found.setdefault(problem.where, []).append(problem.message)
        return found
    return {}


def problems_alone(steps: str, **more: Any) -> dict[str, str]:
    """Return what is wrong whatever the input will be."""
    try:
        check_alone(workflow_of(steps, **more))
    except InvalidWorkflow as error:
        return {problem.where: problem.message for problem in error.problems}
    return {}
