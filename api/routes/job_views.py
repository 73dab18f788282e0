"""What stands behind a job's page: its history, what it was told to do, its manifest."""

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from ...jobs.results_dir import ResultsDir
from ...jobs.timeline import MAX_MOMENTS
from ..errors import NotFound
from ..job_lookup import find_job, read_spec
from ..job_timeline import timeline_object
from ..principal import ThePrincipal
from ..services import TheServices

router = APIRouter(tags=["jobs"])


@router.get("/v1/jobs/{job_id}/timeline")
async def get_timeline(
    job_id: str,
    services: TheServices,
    principal: ThePrincipal,
    points: Annotated[int, Query(ge=2, le=MAX_MOMENTS, description="How many steps at most.")] = 60,
) -> dict[str, Any]:
    """Tell how a job has gone so far: throughput and latency over time, from landed rows.

    Of a job with very many parts some are read, and speak for the rest; `sample` says how many.
    """
    job = await find_job(services, principal, job_id)
    estimate_s = services.rates.eta_s(job)
    spec = await read_spec(services, job_id)
    timeline = await anyio.to_thread.run_sync(partial(services.timelines.of, spec, points))
    left = 0 if job.state.is_final else job.counts.pending + job.counts.running
    return timeline_object(job_id, timeline, left, estimate_s)


@router.get("/v1/jobs/{job_id}/task")
async def get_task(job_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Tell what a job does with every row: its model, its prompt, how answers are sampled."""
    await find_job(services, principal, job_id)
    spec = await read_spec(services, job_id)
    return {
        "object": "job.task",
        "job_id": job_id,
        **asdict(spec.task),
        "id_column": spec.id_column,
        "columns": {name: kind.value for name, kind in spec.columns.items()},
        "shards": {"total": spec.num_shards, "rows": spec.shard_rows},
    }


@router.get("/v1/jobs/{job_id}/manifest")
async def get_manifest(job_id: str, services: TheServices, principal: ThePrincipal) -> FileResponse:
    """Return `_manifest.json` of a job whose rows have all landed."""
    await find_job(services, principal, job_id)
    path = ResultsDir.of(await read_spec(services, job_id)).manifest
    if not await anyio.to_thread.run_sync(path.is_file):
        raise NotFound(
            f"{job_id} has no manifest: one is written when the last row has landed",
            code="no_manifest",
        )
    return FileResponse(path, media_type="application/json", filename=f"{job_id}_manifest.json")
