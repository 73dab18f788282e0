"""Brings batches forward: reads their lines, makes their jobs, renders what comes of those.

    validating    lines are read -> a job for each model, or failed with a list of errors
    in_progress   its jobs run; once all have ended, their rows are rendered into files
    cancelling    its jobs are cancelled, and what has landed is rendered
    ended         whoever wants to know is told

Every step may be done again by anyone: jobs are made under idempotency keys, files under ids that
were chosen at the start, and of the notes on disk the first one stands. A lock saves the work of
doing things twice; nothing depends on it.
"""

import fcntl
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import redis

from .batch_lines import BatchError, check_lines
from .batch_output import Tally, write_lines
from .batch_record import Batch, BatchRecords, Checked, Ended
from .durable import StorageFull
from .ending import cancel
from .errors import InvalidJob, UnknownJob
from .file_store import FileStore, UnknownFile
from .inputs import UnreadableInput
from .job_dir import JobDir
from .job_table import JobTable
from .keys import Keys
from .model import InvalidSampling, JobSnapshot, JobState, TaskSpec
from .redis_client import connect
from .settings import Settings
from .strict_json import parse_json
from .submission import PathSource, SubmitRequest, submit
from .webhook_outbox import WebhookOutbox
from .workers import WorkerRegister

TICK_S = 0.5
_AT_ONCE = 4
_STATUS_OF = {JobState.EXPIRED: "expired", JobState.CANCELLED: "cancelled"}

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
        self._stopping = threading.Event()
        self._under_way: dict[str, Future[None]] = {}
        self._hands = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="batches")
        self._thread = threading.Thread(target=self._run, name="batch-clerk", daemon=True)

    def start(self) -> None:
        """Start to work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is under way is taken up again by the next one."""
        self._stopping.set()
        self._thread.join()
        self._hands.shutdown(wait=True, cancel_futures=True)
        self._redis.close()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            try:
                with self._lock() as is_ours:
                    while is_ours and not self._stopping.wait(TICK_S):
                        self._tick()
            except OSError as error:
                logger.warning("batches wait: %s", error)

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Be the one clerk of this directory, if nobody else is."""
        directory = self._settings.data_dir / "batches"
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "clerk.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _tick(self) -> None:
        self._under_way = {k: each for k, each in self._under_way.items() if not each.done()}
        for batch in self._records.open():
            if batch.spec.id not in self._under_way:
                self._under_way[batch.spec.id] = self._hands.submit(self._advance, batch)

    def _advance(self, batch: Batch) -> None:
        try:
            self.advance(batch)
        except (redis.RedisError, StorageFull) as error:
            logger.warning("%s waits: %s", batch.spec.id, error)
        except Exception:  # of one batch; the others go on, and this one is tried again
            logger.exception("%s cannot be brought forward", batch.spec.id)

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
            self._announce(batch, batch.write_ended(Ended(status="failed", at=_now())))
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
        """Read the lines, and make their jobs."""
        spec = batch.spec
        try:
            path = self._files.path(self._files.get(spec.input_file_id, spec.tenant))
            with self._files.open(spec.input_file_id, spec.tenant) as file:
                lines = check_lines(file, spec.endpoint, self._models())
        except UnknownFile:
            error = BatchError("invalid_request", f"There is no file {spec.input_file_id}.")
            return batch.write_checked(Checked(at=_now(), num_rows=0, errors=[error]))
        if batch.cancelling_at() is not None and not lines.errors:
            return batch.write_checked(Checked(at=_now(), num_rows=lines.num_rows))
        made: list[str] = []
        if not lines.errors:
            try:
                with _by_model(path, list(lines.rows_of), self._settings.data_dir) as inputs:
                    made = [self._submit(batch, model, each) for model, each in inputs.items()]
            except (InvalidJob, InvalidSampling, UnreadableInput) as error:
                lines.errors.append(BatchError("invalid_request", str(error)))
        return batch.write_checked(
            Checked(at=_now(), num_rows=lines.num_rows, jobs=made, errors=lines.errors)
        )

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
        return submit(self._settings, self._table, PathSource(path), request).spec.job_id

    def _cancel(self, job_id: str) -> None:
        try:
            cancel(self._settings, self._table, job_id)
        except UnknownJob:
            logger.warning("%s is gone; there is nothing to cancel", job_id)

    # -- from rows to files -------------------------------------------------------------------

    def _end(self, batch: Batch, jobs: list[JobSnapshot]) -> None:
        """Render what has landed, and only then say that the batch has ended."""
        finalizing_at = _now()
        spec = batch.spec
        states = {job.state for job in jobs}
        status = next((_STATUS_OF[state] for state in _STATUS_OF if state in states), "completed")
        if batch.cancelling_at() is not None:
            status = "cancelled"
        tally = Tally()
        with ExitStack() as stack:
            output = stack.enter_context(self._files.writing())
            errors = stack.enter_context(self._files.writing())
            for job in jobs:
                job_dir = JobDir(self._settings.jobs_dir, job.job_id)
                not_run = f"batch_{status if status in ('expired', 'cancelled') else 'failed'}"
                write_lines(
                    job_dir.read_spec(),
                    job_dir.input,
                    not_run=not_run,
                    output=output,
                    errors=errors,
                    tally=tally,
                )
            has_output = self._keep(output, spec.output_file_id, "output", batch)
            has_errors = self._keep(errors, spec.error_file_id, "error", batch)
        ended = Ended(
            status=status,
            at=_now(),
            finalizing_at=finalizing_at,
            completed=tally.completed,
            failed=tally.failed,
            has_output=has_output,
            has_errors=has_errors,
            usage=tally.usage,
        )
        self._announce(batch, batch.write_ended(ended))

    def _announce(self, batch: Batch, ended: Ended) -> None:
        """Have whoever wants to know told that the batch has ended."""
        batch_id = batch.spec.id
        event_id = f"evt_{batch_id.removeprefix('batch_')}"
        kind = f"batch.{ended.status}"
        self._outbox.announce(event_id, kind, {"id": batch_id}, batch.spec.tenant)
        batch.note_announced()

    def _keep(self, file: BinaryIO, file_id: str, kind: str, batch: Batch) -> bool:
        """Keep a rendered file, unless it is empty."""
        if file.tell() == 0:
            return False
        life_s = batch.spec.output_life_s
        self._files.keep(
            file,
            filename=f"{batch.spec.id}_{kind}.jsonl",
            purpose="batch_output",
            tenant=batch.spec.tenant,
            expires_at=None if life_s is None else _now() + life_s,
            file_id=file_id,
        )
        return True


@contextmanager
def _by_model(path: Path, models: list[str], data_dir: Path) -> Iterator[dict[str, Path]]:
    """Yield a file of lines for each model: the one there is, or parts of it for several."""
    if len(models) == 1:
        yield {models[0]: path}
        return
    spool = data_dir / "uploads"
    spool.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=spool, prefix="batch-"))
    try:
        paths = {model: directory / f"{number}.jsonl" for number, model in enumerate(models)}
        with ExitStack() as stack:
            parts = {m: stack.enter_context(each.open("wb")) for m, each in paths.items()}
            for line in stack.enter_context(path.open("rb")):
                if line.strip():
                    parts[parse_json(line)["body"]["model"]].write(line.rstrip(b"\n") + b"\n")
        yield paths
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _now() -> int:
    return int(time.time())
