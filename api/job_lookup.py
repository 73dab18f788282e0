"""A job by its id, for the tenant that asks: found, read, and shown. Changes nothing."""

import re
from dataclasses import replace
from typing import Any

import anyio.to_thread

from ..jobs.control import read_control
from ..jobs.errors import CorruptJob, UnknownJob
from ..jobs.job_dir import JobDir
from ..jobs.model import JobSnapshot, JobSpec
from .errors import JobGone, JobNotFound, Unavailable
from .job_object import job_object
from .principal import Principal
from .services import Services

_JOB_ID = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}")


def check_job_id(job_id: str) -> None:
    """Refuse what cannot be a job's id before it reaches a file name or a key."""
    if not _JOB_ID.fullmatch(job_id):
        raise JobNotFound(job_id)


async def find_job(services: Services, principal: Principal, job_id: str) -> JobSnapshot:
    """Look a job up. Another tenant's is as one that is not there.

    Raises:
        JobNotFound: there is no such job.
        Unavailable: it is on disk, and the table has not been told of it yet, or again.
    """
    check_job_id(job_id)
    job = await anyio.to_thread.run_sync(services.table.snapshot, job_id)
    if job is None or job.tenant != principal.tenant:
        if await anyio.to_thread.run_sync(_is_on_disk, services, principal.tenant, job_id):
            raise Unavailable(
                f"{job_id} is safe on disk, but not in the job table at the moment; look again",
                code="queue_unavailable",
            )
        raise JobNotFound(job_id)
    return job


def _is_on_disk(services: Services, tenant: str, job_id: str) -> bool:
    try:
        return JobDir(services.settings.jobs_dir, job_id).read_spec().tenant == tenant
    except (UnknownJob, CorruptJob):
        return False


async def show(services: Services, job: JobSnapshot) -> dict[str, Any]:
    """Return a job as clients see it; its metadata is in the job directory only.

    A directory that is gone or damaged is told as the job's error: it must not hide the job, nor
    the others of a list.
    """
    try:
        spec = await read_spec(services, job.job_id)
        job_dir = JobDir(services.settings.jobs_dir, job.job_id)
        metadata = (await anyio.to_thread.run_sync(read_control, job_dir, spec)).metadata
    except (JobGone, CorruptJob, OSError) as error:
        return job_object(replace(job, error=job.error or str(error)), {}, services.rates)
    reason = job.status_reason
    if reason is None and job.state.is_open:
        reason = await anyio.to_thread.run_sync(services.quotas.reason, job)
    return job_object(replace(job, status_reason=reason), metadata, services.rates)


async def read_spec(services: Services, job_id: str) -> JobSpec:
    """Read what a job that the table knows was told to do.

    Raises:
        JobGone: its directory is not there any more.
        CorruptJob: it cannot be read.
    """
    try:
        return await anyio.to_thread.run_sync(JobDir(services.settings.jobs_dir, job_id).read_spec)
    except UnknownJob:
        raise JobGone(job_id) from None
