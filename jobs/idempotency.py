"""Which job an idempotency key has made. In Redis for speed; each job.json holds its key too."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from .errors import CorruptJob, UnknownJob
from .job_dir import JobDir
from .keys import Keys

_TAKE_OVER = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
_FORGET = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The job that a key is bound to now.

    `is_certain` is False if in that moment Redis had lost keys that nobody had restored yet: then
    the key may have made another job, which is on disk.
    """

    holder: str
    is_certain: bool


class IdempotencyKeys:
    """The keys of all tenants."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client
        self._key = keys.idempotency
        self._restored = keys.restored
        self._take_over = client.register_script(_TAKE_OVER)
        self._forget = client.register_script(_FORGET)

    def holder(self, tenant: str, key: str) -> str | None:
        """Return the job that a key has made, or is making."""
        return self._redis.hget(self._key, _field(tenant, key))

    def reserve(self, tenant: str, key: str, job_id: str) -> Reservation:
        """Bind a key to a job unless it is bound."""
        field = _field(tenant, key)
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hsetnx(self._key, field, job_id)
            pipeline.hget(self._key, field)
            pipeline.get(self._restored)
            pipeline.info("server")
            _, holder, restored_run, server = pipeline.execute()
        return Reservation(holder, is_certain=restored_run == server["run_id"])

    def take_over(self, tenant: str, key: str, dead: str, job_id: str) -> bool:
        """Bind a key to another job, if it is still bound to `dead`."""
        return bool(self._take_over([self._key], [_field(tenant, key), dead, job_id]))

    def forget(self, tenant: str, key: str, job_id: str) -> bool:
        """Free a key, if it is still bound to this job."""
        return bool(self._forget([self._key], [_field(tenant, key), job_id]))


def made_on_disk(jobs_dir: Path, tenant: str, key: str) -> JobDir | None:
    """Find the job that a key has made without asking Redis. It reads every job's spec."""
    for job_dir in JobDir.all(jobs_dir):
        with suppress(CorruptJob, UnknownJob):  # nobody can say what made those
            spec = job_dir.read_spec()
            if (spec.tenant, spec.idempotency_key) == (tenant, key):
                return job_dir
    return None


def _field(tenant: str, key: str) -> str:
    return f"{tenant}:{key}"
