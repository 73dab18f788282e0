"""GET /healthz: is the process alive? GET /readyz: would a request be served now?"""

import time

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from ...jobs.workers import PROOF_MAX_AGE_MS
from ..errors import Unavailable
from ..services import TheServices

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """Say that the process runs; anything else is /readyz's business."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(services: TheServices) -> JSONResponse:
    """Say whether Redis answers and some engine has lately brought a row through.

    Raises:
        Unavailable: naming what is missing.
    """
    await services.redis.ping()
    workers = await services.catalog.workers()
    if not workers:
        raise Unavailable(
            "not ready: no worker is there; none has joined yet, or all fell silent",
            code="no_worker",
        )
    now_ms = time.time() * 1000
    proved = [worker for worker in workers if now_ms - worker.proved_at_ms < PROOF_MAX_AGE_MS]
    if not proved:
        raise Unavailable(
            f"not ready: no row came through any of {len(workers)} engines in the last"
            f" {PROOF_MAX_AGE_MS // 1000} s",
            code="no_worker",
        )
    return JSONResponse({"status": "ready", "models": sorted({each.model for each in proved})})
