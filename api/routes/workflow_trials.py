"""/v1/workflows/preview and /plan: what a few rows tell, before all of them are worked on.

Both are runs of their own, over the first rows of each input. Whoever does not wait to the end
finds them again under the run's id.
"""

from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from msgspec.structs import replace

from ...jobs.workflow.plan import Plan
from ...jobs.workflow.replanning import plan_of
from ...jobs.workflow.runs.run_dir import RunDir
from ...jobs.workflow.runs.run_spec import RunSpec
from ...jobs.workflow.runs.run_submission import RunRequest
from ...jobs.workflow.runs.runs import RunSnapshot
from ...jobs.workflow.runs.tracing import RunHistory
from ..bodies import json_body, read_json
from ..creations import ADMITTED
from ..errors import Conflict, InvalidRequest, TooManyRequests
from ..job_wish import priority_for
from ..measured_speed import (
    MeasuredSpeed,
    ended_jobs,
    nothing_measured,
    speed_of_jobs,
    speed_of_workers,
)
from ..principal import Principal, ThePrincipal, principal_of
from ..run_lookup import find_run
from ..run_rows import rows_of
from ..run_start import begin
from ..services import Services, TheServices
from ..wording import counted
from ..workflow_estimate import estimate, estimate_object, spread_of
from ..workflow_object import run_object, trace_object
from ..workflow_requests import checked, sources_of, specification, told
from ..workflow_schemas import CheckRequest, PlanRequest, PreviewRequest
from .jobs import MAX_JOB_JSON_BYTES

MAX_ROWS_SHOWN = 20  # of each step
_COUNTED = 10_000  # rows of a sample, to see how much they vary

router = APIRouter(tags=["workflows"])


@router.post(
    "/v1/workflows/preview", openapi_extra=json_body(PreviewRequest), dependencies=[ADMITTED]
)
async def preview_workflow(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Send the first rows through every step, and show what was asked, answered and made.

    With `wait` too short, `complete` is false: look again at `…/runs/{id}/preview`.
    """
    body = await read_json(request, PreviewRequest, MAX_JOB_JSON_BYTES)
    run = await _try(services, principal, body, body.rows, seed=body.seed)
    run = await _ended(request, services, run, body.wait)
    return await _shown(services, run)


@router.get("/v1/workflows/runs/{run_id}/preview")
async def look_at_preview(
    run_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Show the first rows of each step of a preview, with what was asked and answered."""
    run = await find_run(services, principal, run_id)
    if not run.is_preview:
        raise Conflict(
            f"{run_id} is no preview: look at its rows in …/steps/{{step}}/rows, and at what one "
            "of them was asked in …/rows?row_id="
        )
    return await _shown(services, run)


@router.post("/v1/workflows/plan", openapi_extra=json_body(PlanRequest), dependencies=[ADMITTED])
async def plan_workflow(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Estimate rows, tokens and time of each step from a sample of the first rows.

    With `wait` too short, `complete` is false: look again at `…/runs/{id}/plan`.
    """
    body = await read_json(request, PlanRequest, MAX_JOB_JSON_BYTES)
    run = await _try(services, principal, body, body.sample_rows)
    run = await _ended(request, services, run, body.wait)
    return await _estimated(services, run, body.num_rows)


@router.get("/v1/workflows/runs/{run_id}/plan")
async def look_at_plan(
    run_id: str,
    services: TheServices,
    principal: ThePrincipal,
    num_rows: Annotated[list[str] | None, Query(description="As in docs=200000.")] = None,
    tokens_per_s: Annotated[
        float | None,
        Query(gt=0, description="What each model gives, instead of what was measured here."),
    ] = None,
) -> dict[str, Any]:
    """Estimate from a run what more rows would take."""
    run = await find_run(services, principal, run_id)
    return await _estimated(services, run, dict(map(_count_of, num_rows or ())), tokens_per_s)


async def _try(
    services: Services,
    principal: Principal,
    body: CheckRequest,
    num_rows: int,
    *,
    seed: int = 0,
) -> RunSnapshot:
    await checked(services, principal, body)
    workflow = await specification(services, principal, body)
    output = replace(workflow.output, sink=None)  # a trial leaves nothing where results belong
    wish = RunRequest(
        workflow=replace(workflow, output=output),
        sources=sources_of(services, principal, body.inputs),
        params=body.params,
        tenant=principal.tenant,
        priority=priority_for(services, principal, None),
        first_rows=num_rows,
        seed=seed,
        use_cache=False,  # what is shown, or measured, is to be asked
    )
    return await begin(services, wish)


async def _ended(
    request: Request, services: Services, run: RunSnapshot, wait_s: float
) -> RunSnapshot:
    """Wait for the end of a run, or for so long; too many who wait see it as it stands."""
    look = partial(find_run, services, principal_of(request.scope), run.run_id)
    with suppress(TooManyRequests):
        return await services.polls.next_change(request, run.run_id, look, _no_face, wait_s)
    return run


def _no_face(run: RunSnapshot) -> None:
    """Only its end is waited for."""


async def _shown(services: Services, run: RunSnapshot) -> dict[str, Any]:
    def work() -> list[dict[str, Any]]:
        history = RunHistory(services.settings, run.run_id)
        return [
            {"id": step.id, "type": step.type, "rows": _rows_of(services, run, history, step.id)}
            for step in run.steps
        ]

    with told(run.run_id):
        steps = await anyio.to_thread.run_sync(work)
    return {
        "object": "workflow.preview",
        "complete": run.state.is_final,
        "run": run_object(run),
        "steps": steps,
    }


def _rows_of(
    services: Services, run: RunSnapshot, history: RunHistory, step: str
) -> list[dict[str, Any]]:
    """Tell what a step did for its first rows."""
    found = rows_of(services.settings, run.run_id, step, limit=MAX_ROWS_SHOWN)
    traces = [history.of_step(step, row["row_id"]) for row in found]
    return [trace_object(trace) for trace in traces if trace is not None]


async def _estimated(
    services: Services,
    run: RunSnapshot,
    num_rows: dict[str, int],
    tokens_per_s: float | None = None,
) -> dict[str, Any]:
    settings = services.settings

    def work() -> tuple[RunSpec, Plan, dict[str, float]]:
        spec = RunDir(settings.runs_dir, run.run_id).read()
        spreads = {
            step.id: spread_of(
                [row["parent_id"] for row in rows_of(settings, run.run_id, step.id, limit=_COUNTED)]
            )
            for step in run.steps
            if step.type == "expand"
        }
        return spec, plan_of(spec), spreads

    with told(run.run_id):
        spec, plan, spreads = await anyio.to_thread.run_sync(work)
    if unknown := sorted(num_rows.keys() - plan.inputs.keys()):
        raise InvalidRequest(f"num_rows: there is no input {unknown[0]!r}", param="num_rows")
    sampled = {step.id: step for step in run.steps}
    counts = {name: num_rows.get(name, each.num_rows) for name, each in spec.inputs.items()}
    rates, rests_on = await _rates(services, run, plan, tokens_per_s)
    estimates = estimate(plan, sampled, counts, rates, spreads)
    shown = estimate_object(estimates, sample_rows=run.num_rows, rests_on=rests_on)
    return {**shown, "complete": run.state.is_final, "num_rows": counts, "run": run_object(run)}


async def _rates(
    services: Services, run: RunSnapshot, plan: Plan, given: float | None
) -> tuple[dict[str, float], list[str]]:
    """Tell how many tokens a second each model gives at its best, and where that is known from."""
    rests_on = [f"a sample of {counted(run.num_rows, 'row')}, run {run.run_id}"]
    models = sorted({model for step in plan.steps for model in step.models})
    if given is not None:
        return dict.fromkeys(models, given), [
            *rests_on,
            f"{given:g} tokens/s of each model, as said",
        ]
    rates: dict[str, float] = {}
    for model in models:
        speed = await _speed_of(services, run.tenant, model)
        if speed is None:
            rests_on.append(f"{nothing_measured(model)}, or say `tokens_per_s`")
        else:
            rests_on.append(f"{model}: {speed.words}")
            rates[model] = speed.tokens_per_s
    return rates, rests_on


async def _speed_of(services: Services, tenant: str, model: str) -> MeasuredSpeed | None:
    """Tell how fast a model was: its workers, else earlier jobs, the sample's among them."""
    speed = speed_of_workers(await services.catalog.workers(), model)
    if speed is None:
        jobs = await anyio.to_thread.run_sync(ended_jobs, services.table, tenant, model)
        speed = speed_of_jobs(jobs)
    return speed


def _count_of(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not number.isdigit():
        raise InvalidRequest(f"num_rows must be as in docs=200000, got {text[:80]!r}")
    return name, int(number)
