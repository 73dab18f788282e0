"""Everything that can be found wrong with a workflow before a token is spent; and, where nothing
is, the plan by which it runs. Knows no run, no file and no engine.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

import msgspec

from ...templates import RenderError, Template, TemplateError
from ..expressions.types import Type
from ..meta import META
from ..plan import Plan, PlannedStep
from ..spec import Embed, Expand, Generate, Judge, Map, Reduce, Step, Workflow
from .asks import Schemas
from .document import read_workflow
from .flow import Flow
from .graph import sources_of
from .inputs import Inputs, input_flows
from .output import output_columns, output_step
from .params import merged_params
from .plan import Planned, Planner
from .problems import InvalidWorkflow, Problem, Problems
from .schemas import InvalidSchema, answer_schema
from .step import StepCheck
from .steps import check_step

__all__ = ["InvalidWorkflow", "Problem", "check", "check_alone", "read_workflow"]

MAX_WIDTH = 1_000_000  # rows that one row of an input may become
MAX_SHARD_ROWS = 256
MAX_WIDEST_SHARD = 32_768  # rows of a shard where it is widest, should all of them come


def check(
    workflow: Workflow,
    params: Mapping[str, Any],
    inputs: Inputs,
) -> Plan:
    """Plan a workflow over inputs whose columns are known.

    Raises:
        InvalidWorkflow: it cannot run; everything that is wrong is told.
    """
    return _Checker(workflow, params, inputs).plan()


def check_alone(workflow: Workflow) -> None:
    """Check a workflow to which no inputs have been brought yet, as far as that goes.

    Raises:
        InvalidWorkflow: it could not run whatever they were.
    """
    _Checker(workflow, {}, None).plan()


class _Checker:
    """Goes through a workflow from its inputs to its output, and notes whatever is wrong."""

    def __init__(
        self, workflow: Workflow, params: Mapping[str, Any], inputs: Inputs | None
    ) -> None:
        self._inputs = inputs
        self._problems = Problems()
        self._params = merged_params(workflow.params, params, self._problems)
        self._workflow = _with_default_model(workflow, self._params)
        self._params_type = Type.of_value(self._params)
        self._schemas = self._answer_schemas()
        self._added_by = _added_by(workflow)
        self._planner = Planner(count(len(workflow.inputs)))

    def plan(self) -> Plan:
        workflow, problems = self._workflow, self._problems
        flows = input_flows(workflow, self._inputs, problems)
        steps: list[PlannedStep] = []
        for spec, names in zip(workflow.steps, sources_of(workflow, problems), strict=True):
            sources = tuple(flows.get(name, _UNKNOWN) for name in names or ("",))
            planned = self._step(spec, sources)
            steps += planned.steps
            flows[spec.id] = planned.flow
            self._check_width(spec, sources, planned.flow)
        self._check_tokens(steps)
        output = output_step(workflow, problems)
        columns = output_columns(workflow, flows.get(output, _UNKNOWN), problems)
        problems.raise_any()
        widest = max(flow.region_width for flow in flows.values())
        return Plan(
            workflow=workflow,
            params=self._params,
            steps=tuple(steps),
            inputs=self._inputs or {},
            output=workflow.output,
            output_step=output,
            output_columns=columns,
            shard_rows=max(1, min(MAX_SHARD_ROWS, MAX_WIDEST_SHARD // widest)),
        )

    def _step(self, spec: Step, sources: tuple[Flow, ...]) -> Planned:
        on_error = spec.on_error or self._workflow.defaults.on_error
        check = StepCheck(
            spec=spec,
            flows=sources,
            params=self._params,
            params_type=self._params_type,
            problems=self._problems,
            added_by=self._added_by,
            is_default=on_error == "default",
            is_alone=self._inputs is None,
        )
        if on_error != "default" and spec.default is not None:
            check.tell("default", "it is used with on_error: default only")
        return check_step(check, on_error, self._workflow.defaults, self._schemas, self._planner)

    def _answer_schemas(self) -> Schemas:
        schemas: dict[str, Mapping[str, Any] | None] = {}
        for name, schema in self._workflow.schemas.items():
            schemas[name] = None
            with self._problems.at(f"schemas.{name}", InvalidSchema):
                schemas[name] = answer_schema(schema)
        return schemas

    def _check_width(self, spec: Step, sources: tuple[Flow, ...], flow: Flow) -> None:
        """Tell of the first step on a path at which there are too many rows."""
        if flow.width > MAX_WIDTH >= max(source.width for source in sources):
            self._problems.add(
                f"steps.{spec.id}",
                f"one row of an input may become {flow.width} rows here, more than {MAX_WIDTH}; "
                "lower `n`, or `max` of the steps before",
            )

    def _check_tokens(self, steps: list[PlannedStep]) -> None:
        """Tell where texts are cut by tokens, and there is no model whose tokens these could be."""
        if self._workflow.defaults.model or any(step.models for step in steps):
            return
        for step in self._workflow.steps:
            if isinstance(step, Expand) and step.split and step.split.by == "tokens":
                message = "tokens are those of a model; name one in `defaults`"
                self._problems.add(f"steps.{step.id}.split.by", message)


def _with_default_model(workflow: Workflow, params: Mapping[str, Any]) -> Workflow:
    """Write out the model of all steps where it is a param; what is wrong with it, steps tell."""
    model = workflow.defaults.model
    if model is None or "{" not in model:
        return workflow
    try:
        template = Template.compile(model, frozenset({"params"}))
        model = template.render_in({"params": params})
    except (TemplateError, RenderError):
        return workflow
    defaults = msgspec.structs.replace(workflow.defaults, model=model)
    return msgspec.structs.replace(workflow, defaults=defaults)


_UNKNOWN = Flow("", {}, is_open=True, region=-1)  # rows of a source that there is not


def _added_by(workflow: Workflow) -> dict[str, str]:
    """Map each column that a step adds to the step; of several steps, to the first."""
    added: dict[str, str] = {}
    for step in workflow.steps:
        names: tuple[str, ...] = ()
        if isinstance(step, Expand) and step.cross:
            names = tuple(step.cross)
        elif isinstance(step, Generate | Judge | Embed | Reduce):
            names = (step.column, step.column + META)
        elif isinstance(step, Expand | Map):
            names = (step.column,)
        for name in names:
            added.setdefault(name, step.id)
    return added
