"""How much of the disk is a tenant's: files, uploads, inputs and rows of jobs and of runs.

Changes nothing.

What has ended grows no more and is measured once; a job that runs is measured again each time.
"""

import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CorruptJob, UnknownJob
from .file_store import FileStore
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobSnapshot
from .part_uploads import PartUploads
from .settings import Settings
from .workflow.runs.run_dir import RunDir
from .workflow.runs.run_results import RunResults

_MAX_AGE_S = 2.0
_JOBS_AT_A_TIME = 500
_JOBS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of a tenant, by what they are. Uploads count as large as they are announced to be."""

    files: int = 0
    uploads: int = 0
    jobs: int = 0
    runs: int = 0  # of workflows, with these, and without the jobs that serve them

    @property
    def total(self) -> int:
        """All of them."""
        return self.files + self.uploads + self.jobs + self.runs


_NEVER = -math.inf, Stored()


class StoredBytes:
    """Measures what tenants store, any thread, each tenant once at a time.

    It blocks, and may take long for a tenant with many parts. Those who ask meanwhile wait for one
    measurement that is begun after they asked, and share it.
    """

    def __init__(self, settings: Settings, table: JobTable) -> None:
        self._jobs_dir = settings.jobs_dir
        self._runs_dir = settings.runs_dir
        self._workflows_dir = settings.data_dir / "workflows"
        self._table = table
        self._files = FileStore(settings.files_dir)
        self._uploads = PartUploads(settings.part_uploads_dir, self._files)
        self._ended: dict[tuple[str, int | None], int] = {}  # (job, when it ended) -> bytes
        self._runs: dict[str, tuple[str, RunResults]] = {}  # run -> its tenant, where its rows land
        self._measured: dict[str, tuple[float, Stored]] = {}  # tenant -> since when, and what
        self._freed_at_s: dict[str, float] = {}
        self._locks: dict[str, threading.Lock] = {}

    def of(self, tenant: str, max_age_s: float | None = None) -> Stored:
        """Measure what a tenant stores, unless that was done a moment ago and nothing freed since.

        How long a moment is, `max_age_s` may tell.
        """
        age_s = _MAX_AGE_S if max_age_s is None else max_age_s
        since_s = max(time.monotonic() - age_s, self._freed_at_s.get(tenant, -math.inf))
        begun_at_s, stored = self._measured.get(tenant, _NEVER)
        return stored if begun_at_s >= since_s else self._measure(tenant, since_s)

    def measure(self, tenant: str) -> Stored:
        """Measure what a tenant stores now."""
        return self._measure(tenant, time.monotonic())

    def freed(self, tenant: str) -> None:
        """Note that something of a tenant was deleted: what was measured before is too much."""
        self._freed_at_s[tenant] = time.monotonic()

    def known(self, tenant: str) -> int:
        """Return what was last measured, without waiting; 0 if nothing was."""
        return self._measured[tenant][1].total if tenant in self._measured else 0

    def _measure(self, tenant: str, since_s: float) -> Stored:
        """Measure, unless somebody else did who has begun since."""
        with self._locks.setdefault(tenant, threading.Lock()):
            begun_at_s, stored = self._measured.get(tenant, _NEVER)
            if begun_at_s < since_s:
                begun_at_s = time.monotonic()
                stored = Stored(
                    files=sum(file.bytes for file in self._files.list(tenant)),
                    uploads=self._uploads.announced(tenant),
                    jobs=self._of_jobs(tenant),
                    runs=self._of_runs(tenant) + _size(self._workflows_dir / tenant),
                )
                self._measured[tenant] = begun_at_s, stored
        return stored

    def _of_jobs(self, tenant: str) -> int:
        if len(self._ended) > _JOBS_KEPT:
            self._ended.clear()
        names: Any = self._table.redis.zrange(self._table.keys.jobs_of(tenant), 0, -1)
        total = 0
        for first in range(0, len(names), _JOBS_AT_A_TIME):
            for job in self._table.snapshots(names[first : first + _JOBS_AT_A_TIME]):
                total += 0 if job is None else self._of_job(job)
        return total

    def _of_job(self, job: JobSnapshot) -> int:
        key = job.job_id, job.finished_at_ms
        known = self._ended.get(key) if job.state.is_final else None
        if known is not None:
            return known
        job_dir = JobDir(self._jobs_dir, job.job_id)
        total = _size(job_dir.path)
        results = job_dir.linked_results()
        if results is not None and job.retry_of is None:  # a retry's lie in those of its job
            total += _size(results)
        if job.state.is_final:
            self._ended[key] = total
        return total

    def _of_runs(self, tenant: str) -> int:
        runs: dict[str, tuple[str, RunResults]] = {}  # other threads look into `_runs` meanwhile
        for run_id in RunDir.all(self._runs_dir):
            known = self._runs.get(run_id)
            if known is None:
                with suppress(UnknownJob, CorruptJob):  # removed meanwhile, or not to be read
                    spec = RunDir(self._runs_dir, run_id).read()
                    known = spec.tenant, RunResults.of(spec)
            if known is not None:
                runs[run_id] = known
        self._runs = runs
        owned = [(run_id, results) for run_id, (owner, results) in runs.items() if owner == tenant]
        return sum(self._of_run(run_id, results) for run_id, results in owned)

    def _of_run(self, run_id: str, results: RunResults) -> int:
        run_dir = RunDir(self._runs_dir, run_id)
        key, has_ended = (run_id, None), False
        with suppress(CorruptJob):
            has_ended = run_dir.read_final() is not None
        known = self._ended.get(key) if has_ended else None
        if known is not None:
            return known
        total = _size(run_dir.path) + _size(results.path) - _size(results.asks)
        if has_ended:
            self._ended[key] = total
        return total


def _size(directory: Path) -> int:
    """Add up the files below a directory; one that is not there has none, links are not followed.

    What vanishes meanwhile does not count.
    """
    total = 0
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _size(Path(entry.path))
            else:
                with suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total
