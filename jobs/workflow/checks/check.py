"""Everything that can be found wrong with a workflow before a token is spent; and, where nothing
is, the plan by which it runs. Knows no run, no file and no engine.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import msgspec

from ...templates import RenderError, Template, TemplateError
from ..expressions.errors import nearest, shown
from ..expressions.types import Type
from ..meta import META
from ..plan import Plan, PlannedStep
from ..spec import Embed, Expand, Generate, Judge, Map, Reduce, Step, Workflow
from .asks import Schemas
from .document import ANY_NAME, read_draft, read_workflow
from .draft import UNKNOWN, Draft, Remnant, doubted, place_of, told_of
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

__all__ = ["InvalidWorkflow", "Problem", "check", "check_alone", "check_document", "read_workflow"]

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
    return _Checker(Draft(workflow), params, inputs, Problems()).plan()


def check_alone(workflow: Workflow) -> None:
    """Check a workflow to which no inputs have been brought yet, as far as that goes.

    Raises:
        InvalidWorkflow: it could not run whatever they were.
    """
    _Checker(Draft(workflow), {}, {}, Problems(), is_alone=True).plan()


def check_document(
    document: Any,
    params: Mapping[str, Any],
    inputs: Inputs,
    *,
    served: Collection[str] = (),
    problems: Problems | None = None,
) -> Plan:
    """Read a workflow and check all of it at once, over those inputs whose columns are known.

    Of an input that is missing, the columns are those that it promises; where it promises none,
    the plan is what can be known of it (`Plan.inputs` lacks that input).

    Args:
        served: the models that may be asked; none at all leaves open which there will be.
        problems: what has been found before.

    Raises:
        InvalidWorkflow: it cannot run; everything that is wrong is told.
    """
    found = Problems() if problems is None else problems
    draft = read_draft(document, found)
    declared = draft.workflow.inputs
    promised = {name: each.columns for name, each in declared.items() if each.columns}
    known: Inputs = {**promised, **inputs}
    is_alone = not declared.keys() <= known.keys()
    return _Checker(draft, params, known, found, served, is_alone=is_alone).plan()


class _Checker:
    """Goes through a workflow from its inputs to its output, and notes whatever is wrong."""

    def __init__(
        self,
        draft: Draft,
        params: Mapping[str, Any],
        inputs: Inputs,
        problems: Problems,
        served: Collection[str] = (),
        *,
        is_alone: bool = False,
    ) -> None:
        self._draft = draft
        self._inputs = inputs
        self._is_alone = is_alone
        self._served = served
        self._problems = problems
        self._params = merged_params(draft.workflow.params, params, problems)
        self._workflow = _with_default_model(draft.workflow, self._params)
        self._params_type = Type.of_value(self._params)
        self._schemas = self._answer_schemas()
        self._added_by = _added_by(draft.workflow)
        self._planner = Planner(count(len(draft.workflow.inputs)))

    def plan(self) -> Plan:
        workflow, problems = self._workflow, self._problems
        flows = input_flows(workflow, self._inputs, problems, is_alone=self._is_alone)
        steps: list[PlannedStep] = []
        sources_of_all = sources_of(self._draft, problems)
        for index, (spec, names) in enumerate(zip(workflow.steps, sources_of_all, strict=True)):
            sources = tuple(flows.get(name, UNKNOWN) for name in names or ("",))
            planned = self._step(index, spec, sources)
            steps += planned.steps
            flows[spec.id] = planned.flow
            self._check_width(spec, sources, planned.flow)
        self._check_tokens(steps)
        output = output_step(workflow, problems)
        columns = output_columns(workflow, flows.get(output, UNKNOWN), problems)
        problems.raise_any()
        widest = max(flow.region_width for flow in flows.values())
        return Plan(
            workflow=workflow,
            params=self._params,
            steps=tuple(steps),
            inputs=self._inputs,
            output=workflow.output,
            output_step=output,
            output_columns=columns,
            shard_rows=max(1, min(MAX_SHARD_ROWS, MAX_WIDEST_SHARD // widest)),
        )

    def _step(self, index: int, spec: Step, sources: tuple[Flow, ...]) -> Planned:
        on_error = spec.on_error or self._workflow.defaults.on_error
        found = Problems()
        check = StepCheck(
            spec=spec,
            flows=sources,
            params=self._params,
            params_type=self._params_type,
            problems=found,
            added_by=self._added_by,
            is_default=on_error == "default",
            is_alone=self._is_alone,
            served=self._served,
        )
        remnant = self._remnant(index, spec)
        is_doubtful = spec.default is not None and self._is_on_error_lost(spec, remnant)
        if not is_doubtful and on_error != "default" and spec.default is not None:
            check.tell("default", "it is used with on_error: default only")
        planned = check_step(check, on_error, self._workflow.defaults, self._schemas, self._planner)
        fields = told_of(found, spec.id, remnant, self._problems)
        if is_doubtful:
            fields |= {"on_error"}
        for step in planned.steps:
            self._check_served(spec, step)
        return replace(planned, flow=doubted(planned.flow, spec, sources, fields, remnant))

    def _remnant(self, index: int, spec: Step) -> Remnant | None:
        """Return what is left of a step; of one under another's id, nobody knows what it adds."""
        if any(other.id == spec.id for other in self._workflow.steps[:index]):
            written = frozenset(spec.__struct_encode_fields__) - {"as"}
            return Remnant(written, frozenset({"id"}))
        return self._draft.remnants.get(index)

    def _is_on_error_lost(self, spec: Step, remnant: Remnant | None) -> bool:
        """Tell whether nobody knows what becomes of rows that fail: it is written, but wrong."""
        if remnant is not None and "on_error" in remnant.lost:
            return True
        return spec.on_error is None and "on_error" in self._draft.lost_defaults

    def _check_served(self, spec: Step, step: PlannedStep) -> None:
        """Tell of models that would be waited for in vain."""
        is_own = getattr(spec, "model", None) is not None
        where = f"{place_of(spec.id)}.model" if is_own else "defaults.model"
        for model in step.models:
            if self._served and model not in self._served and model != ANY_NAME:
                known = ", ".join(sorted(self._served))
                hint = nearest(model, self._served) or f"; served: {known}"
                self._problems.add(where, f"{shown(model)} is not served here{hint}")

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
                place_of(spec.id),
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
                self._problems.add(f"{place_of(step.id)}.split.by", message)


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
