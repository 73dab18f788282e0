"""Brings batches forward: reads their lines, makes their jobs, renders what comes of those.

    validating    lines are read -> a job for each model, or failed with a list of errors
    in_progress   its jobs run; once all have ended, their rows are rendered into files
    cancelling    its jobs are cancelled, and what has landed is rendered
    ended         whoever wants to know is told

Every step may be done again by anyone: jobs are made under idempotency keys, and of the notes on
disk the first one stands; files that the standing note does not name are removed. A lock saves the
work of doing things twice; nothing depends on it.
"""

import logging
import shutil
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

import redis

from .batch_lines import BatchError, check_lines
from .batch_output import Tally, write_lines
from .batch_record import Batch, BatchRecords, BatchStatus, Checked, Ended
from .durable import StorageFull
from .ending import cancel
from .errors import CorruptJob, InvalidJob, UnknownJob
from .file_store import OUTPUT_PURPOSE, FileStore, UnknownFile
from .inputs import UnreadableInput
from .job_dir import JobDir
from .job_table import JobTable
from .keys import Keys
from .model import InvalidSampling, JobSnapshot, JobState, TaskSpec
from .redis_client import connect
from .sealed_input import CorruptInput
from .settings import Settings
from .sole_worker import SoleWorker
from .submission import PathSource, SubmitRequest, submit
from .webhook_outbox import WebhookOutbox
from .workers import WorkerRegister

_AT_ONCE = 4
_PAUSE_S = 60.0  # before a batch that could not be brought forward is tried again
_NOT_RUN = {
    BatchStatus.EXPIRED: "batch_expired",
    BatchStatus.CANCELLED: "batch_cancelled",
}

logger = logging.getLogger(__name__)


class BatchClerk:
    """Works through the open batches, in threads of its own."""

    def __init__(
        self, settings: Settings, records: BatchRecords, files: FileStore, outbox: WebhookOutbox
    ) -> None:
        keys = Keys(settings.namespace)
        self._settings = settings
        self._redis = connect(settings)
        self._table = JobTable(self._redis, keys)
        self._workers = WorkerRegister(self._redis, keys)
        self._records = records
        self._files = files
        self._outbox = outbox
        self._under_way: dict[str, Future[None]] = {}
        self._not_before_s: dict[str, float] = {}
        self._hands = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batches")
        self._worker = SoleWorker(settings.data_dir / "batches" / "clerk.lock", self._tick)

    def start(self) -> None:
        """Start to work."""
        self._worker.start()

    def stop(self) -> None:
        """Stop; what is under way is taken up again by the next one."""
        self._worker.stop()
        self._hands.shutdown(wait=True, cancel_futures=True)
        self._redis.close()

    def _tick(self) -> None:
        self._under_way = {k: each for k, each in self._under_way.items() if not each.done()}
        for batch in self._records.open():
            name = batch.spec.id
            is_due = self._not_before_s.get(name, 0.0) <= time.monotonic()
            if is_due and name not in self._under_way:
                self._under_way[name] = self._hands.submit(self._advance, batch)

    def _advance(self, batch: Batch) -> None:
        try:
            self.advance(batch)
        except (redis.RedisError, StorageFull) as error:
            logger.warning("%s waits: %s", batch.spec.id, error)
        except Exception:  # of one batch; the others go on, and this one is tried again
            logger.exception("%s cannot be brought forward", batch.spec.id)
            self._not_before_s[batch.spec.id] = time.monotonic() + _PAUSE_S
        else:
            self._not_before_s.pop(batch.spec.id, None)

    def advance(self, batch: Batch) -> None:
        """Do the next step of a batch, if one is due.

        Raises:
            redis.RedisError, StorageFull: it is to be tried again.
        """
        ended = batch.ended()
        if ended is not None:
            self._announce(batch, ended)
            return
        checked = batch.checked() or self._check(batch)
        if checked.errors:
            self._fail(batch, checked)
            return
        jobs = [self._table.snapshot(job_id) for job_id in checked.jobs]
        known = [job for job in jobs if job is not None]
        if len(known) < len(jobs):
            return  # Redis has lost them; the keeper enters them again
        if batch.cancelling_at() is not None:
            for job in known:
                if not job.state.is_final:
                    self._cancel(job.job_id)
            known = [self._table.snapshot(job.job_id) or job for job in known]
        if all(job.state.is_final for job in known):
            self._end(batch, known)

    # -- from lines to jobs -------------------------------------------------------------------

    def _check(self, batch: Batch) -> Checked:
        """Read the lines, and make their jobs; one that is to be cancelled makes them too."""
        spec = batch.spec
        made: list[str] = []
        with _Lines(self._settings.data_dir / "uploads") as lines:
            try:
                with self._files.open(spec.input_file_id, spec.tenant) as file:
                    found = check_lines(file, spec.endpoint, self._models(), lines.keep)
            except UnknownFile:
                error = BatchError("invalid_request", f"There is no file {spec.input_file_id}.")
                return batch.write_checked(Checked(at=_now(), num_rows=0, errors=[error]))
            if not found.errors:
                try:
                    for model, path in lines.paths().items():
                        made.append(self._submit(batch, model, path))
                except (InvalidJob, InvalidSampling, UnreadableInput) as error:
                    found.errors.append(BatchError("invalid_request", str(error)))
        return batch.write_checked(
            Checked(at=_now(), num_rows=found.num_rows, jobs=made, errors=found.errors)
        )

    def _fail(self, batch: Batch, checked: Checked) -> None:
        """End a batch whose lines are wrong, and the jobs that were made before that was known."""
        for job_id in checked.jobs:
            self._cancel(job_id)
        self._announce(batch, batch.write_ended(Ended(status=BatchStatus.FAILED, at=_now())))

    def _models(self) -> set[str]:
        """Name the models that are served, or are set up to be."""
        return {*self._settings.models, *(worker.model for worker in self._workers.list())}

    def _submit(self, batch: Batch, model: str, path: Path) -> str:
        spec = batch.spec
        request = SubmitRequest(
            task=TaskSpec(model=model, endpoint=spec.endpoint),
            name=spec.id,
            id_column="custom_id",
            tenant=spec.tenant,
            metadata={"batch_id": spec.id},
            idempotency_key=f"{spec.id}:{model}",
            format="jsonl",
            deadline_ms=spec.deadline_ms,
        )
        made = submit(self._settings, self._table, PathSource(path), request)
        if made.num_rejected:  # which the check of the lines should have told
            line, message = made.rejected[0].line, made.rejected[0].message
            self._cancel(made.spec.job_id)
            raise InvalidJob("input", f"a line cannot become a row ({line} of {model}): {message}")
        return made.spec.job_id

    def _cancel(self, job_id: str) -> None:
        try:
            cancel(self._settings, self._table, job_id)
        except UnknownJob:
            logger.warning("%s is gone; there is nothing to cancel", job_id)

    # -- from rows to files -------------------------------------------------------------------

    def _end(self, batch: Batch, jobs: list[JobSnapshot]) -> None:
        """Render what has landed, and only then say that the batch has ended."""
        finalizing_at, status = _now(), _status_of(batch, jobs)
        tally = Tally()
        with ExitStack() as stack:
            output = stack.enter_context(self._files.writing())
            errors = stack.enter_context(self._files.writing())
            try:
                for job in jobs:
                    job_dir = JobDir(self._settings.jobs_dir, job.job_id)
                    write_lines(
                        job_dir.read_spec(),
                        job_dir.input,
                        not_run=_NOT_RUN.get(status, "batch_failed"),
                        output=output,
                        errors=errors,
                        tally=tally,
                    )
            except (CorruptInput, CorruptJob) as error:
                fault = BatchError("server_error", f"a job of this batch cannot be read: {error}")
                status, failure = BatchStatus.FAILED, [fault]
            else:
                failure = []
            ended = Ended(
                status=status,
                at=_now(),
                finalizing_at=finalizing_at,
                completed=tally.completed,
                failed=tally.failed,
                output_file_id=self._keep(output, "output", batch),
                error_file_id=self._keep(errors, "error", batch),
                errors=failure,
                usage=tally.usage,
            )
        self._announce(batch, batch.write_ended(ended))

    def _announce(self, batch: Batch, ended: Ended) -> None:
        """Have whoever wants to know told that the batch has ended."""
        batch_id = batch.spec.id
        event_id = f"evt_{batch_id.removeprefix('batch_')}"
        kind = f"batch.{ended.status.value}"
        self._outbox.announce(event_id, kind, {"id": batch_id}, batch.spec.tenant)
        self._remove_others(batch, ended)
        batch.close()

    def _keep(self, file: BinaryIO, kind: str, batch: Batch) -> str | None:
        """Keep a rendered file, unless it is empty; return its id."""
        if file.tell() == 0:
            return None
        life_s = batch.spec.output_life_s
        stored = self._files.keep(
            file,
            filename=f"{batch.spec.id}_{kind}.jsonl",
            purpose=OUTPUT_PURPOSE,
            tenant=batch.spec.tenant,
            expires_at=None if life_s is None else _now() + life_s,
        )
        return stored.id

    def _remove_others(self, batch: Batch, ended: Ended) -> None:
        """Remove what was rendered of a batch and did not come to stand."""
        standing = {ended.output_file_id, ended.error_file_id}
        for stored in self._files.list(batch.spec.tenant):
            is_ours = stored.purpose == OUTPUT_PURPOSE and stored.filename.startswith(batch.spec.id)
            if is_ours and stored.id not in standing:
                self._files.delete(stored.id, batch.spec.tenant)


class _Lines:
    """The lines of a batch on their way to its jobs: a file for each model, gone afterwards."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        self._spool.mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(dir=self._spool, prefix="batch-"))
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def keep(self, model: str, line: bytes) -> None:
        """Write a line to the file of its model."""
        if model not in self._files:
            path = self._directory / f"{len(self._files)}.jsonl"
            self._files[model] = path.open("wb")
        self._files[model].write(line)

    def paths(self) -> dict[str, Path]:
        """Return the file of each model, whole."""
        for file in self._files.values():
            file.flush()
        return {model: Path(file.name) for model, file in self._files.items()}


def _status_of(batch: Batch, jobs: list[JobSnapshot]) -> BatchStatus:
    """Say how a batch has ended whose jobs have."""
    states = {job.state for job in jobs}
    if batch.cancelling_at() is not None or JobState.CANCELLED in states:
        return BatchStatus.CANCELLED
    return BatchStatus.EXPIRED if JobState.EXPIRED in states else BatchStatus.COMPLETED


def _now() -> int:
    return int(time.time())
