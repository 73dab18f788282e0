"""From a shard's name to requests: reads its rows, renders and tokenizes them. Knows no engine.

A fault of one row (a template that trips over it, a prompt that cannot be tokenized) becomes that
row's error. A fault of the shard as a whole is told to the worker.
"""

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from ..engine.outputs import Priority, Request, RequestError
from ..engine.pooling import Pooling
from .errors import CorruptJob, NewerJob, UnknownJob
from .found_part import found_counts
from .frames import AbortShard, RunShard, ShardFailed, ShardLanded, Trouble
from .job_dir import JobDir
from .journal import Journal, finished_rows
from .model import InvalidSampling, SamplingParams, ShardRef
from .prompt_encoder import PromptEncoder
from .results_dir import ResultsDir
from .row_request import RowRequest, row_params, row_request
from .sealed_input import CorruptInput, CorruptShard, SealedInput, SealedRow
from .shard_run import PreparedRow, ShardRun
from .suspects import Suspects
from .templates import TemplateError

_OPEN_JOBS = 8

logger = logging.getLogger(__name__)


class _OpenJob:
    """What is kept of a job between its shards."""

    def __init__(self, directory: JobDir) -> None:
        self.spec = directory.read_spec()
        self.params = self.spec.task.sampling_params()
        self.results = ResultsDir.of(self.spec)
        self.input: SealedInput = directory.open_input()


class ShardReader:
    """Prepares shards in a thread of its own, so that the engine never waits for a disk."""

    def __init__(
        self,
        jobs_dir: Path,
        worker: str,
        encoder: PromptEncoder,
        on_prepared: Callable[[ShardRun | AbortShard], None],
        on_outcome: Callable[[ShardLanded | ShardFailed], None],
    ) -> None:
        self._jobs_dir = jobs_dir
        self._worker = worker
        self._encoder = encoder
        self._on_prepared = on_prepared
        self._on_outcome = on_outcome
        self._orders: queue.SimpleQueue[RunShard | AbortShard] = queue.SimpleQueue()
        self._jobs: OrderedDict[str, _OpenJob] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="shard-reader", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def submit(self, order: RunShard | AbortShard) -> None:
        """Prepare a shard when those before it are prepared; an abort is passed on in its turn."""
        self._orders.put(order)

    @property
    def num_waiting(self) -> int:
        """Shards that are not prepared yet."""
        return self._orders.qsize()

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            if isinstance(order, AbortShard):
                self._on_prepared(order)
                continue
            try:
                self._prepare(order)
            except NewerJob as error:
                self._fail(order, str(error), Trouble.NEWER)
            except (UnknownJob, CorruptJob, CorruptInput, IndexError) as error:
                self._fail(order, str(error), Trouble.LASTING)
            except (InvalidSampling, TemplateError) as error:  # submission would have refused it
                self._fail(order, str(error), Trouble.LASTING)
            except OSError as error:  # the disk does not do its work just now
                self._fail(order, f"storage_unavailable: {error}", Trouble.STORAGE)
            except Exception as error:
                logger.exception("cannot prepare shard %d of %s", order.index, order.job_id)
                self._fail(order, f"{type(error).__name__}: {error}", Trouble.UNEXPECTED)

    def _prepare(self, order: RunShard) -> None:
        job = self._open(order.job_id)
        found = found_counts(job.results, order.index)
        if found is not None:  # landed, but whoever landed it did not live to commit it
            self._on_outcome(ShardLanded(order.job_id, order.index, order.attempt, found))
            return
        self._on_prepared(self._run_of(order, job))

    def _run_of(self, order: RunShard, job: _OpenJob) -> ShardRun:
        """Prepare the rows that no earlier attempt has finished."""
        ref = ShardRef(order.job_id, order.index)
        suspects = Suspects(self._jobs_dir, ref)
        try:
            sealed_rows = job.input.shard(order.index)
        except CorruptShard as error:
            finished, rows = {}, _lost_rows(error)
        else:
            finished = finished_rows(self._jobs_dir, ref, sealed_rows)
            rows = [
                self._prepared(order, job, sealed, _verdict(suspects, sealed))
                for sealed in sealed_rows
                if sealed.row_index not in finished
            ]
        suspects.begin([row.sealed.row_index for row in rows if isinstance(row.request, Request)])
        return ShardRun(
            order,
            job.spec,
            rows,
            self._worker,
            suspects=suspects,
            journal=Journal(self._jobs_dir, ref, order.attempt),
            finished=finished.values(),
        )

    def _prepared(
        self, order: RunShard, job: _OpenJob, sealed: SealedRow, verdict: RequestError | None
    ) -> PreparedRow:
        if verdict is not None:
            return PreparedRow(sealed, verdict)
        try:
            return self._asked(order, job, sealed)
        except TemplateError:  # the job's own: every row would trip over it
            raise
        except InvalidSampling as error:
            fault = RequestError("invalid_request", str(error), param=error.param, stage="validate")
        except Exception as error:  # a bug that one row brings out must not end its whole job
            logger.exception("cannot prepare row %d of %s", sealed.row_index, order.job_id)
            fault = RequestError("internal_error", f"{type(error).__name__}: {error}"[:500])
        return PreparedRow(sealed, fault)

    def _asked(self, order: RunShard, job: _OpenJob, sealed: SealedRow) -> PreparedRow:
        wish = row_request(job.spec.task, job.params, sealed.row, sealed.custom_id)
        if isinstance(wish, RequestError):
            return PreparedRow(sealed, wish)
        calls = wish.tools.format_in(self._encoder.tool_format) if wish.tools else None
        request = self._request(order, job, sealed, wish)
        return PreparedRow(sealed, request, calls, is_json=wish.is_json)

    def _request(
        self, order: RunShard, job: _OpenJob, sealed: SealedRow, wish: RowRequest
    ) -> Request | RequestError:
        params: SamplingParams | RequestError = wish.params
        if wish.tools is not None:
            params = wish.tools.sampling_params(params, self._encoder.tool_format)
        if isinstance(params, RequestError):
            return params
        token_ids = self._encoder.encode_row(wish.prompt, wish.tools, wish.template_options)
        if isinstance(token_ids, RequestError):
            return token_ids
        return Request(
            request_id=f"{order.job_id}/{order.index}.{order.attempt}/{sealed.row_index}",
            prompt_token_ids=token_ids,
            params=row_params(params, order.job_id, sealed.row_index),
            priority=Priority.BULK,
            cache_salt=job.spec.tenant,
            stream_interval=0,  # nobody watches a bulk row: its text is put together once
            job=order.job_id,
            pooling=None if wish.embed is None else Pooling(dimensions=wish.embed.dimensions),
        )

    def _open(self, job_id: str) -> _OpenJob:
        if job_id in self._jobs:
            self._jobs.move_to_end(job_id)
            return self._jobs[job_id]
        job = self._jobs[job_id] = _OpenJob(JobDir(self._jobs_dir, job_id))
        if len(self._jobs) > _OPEN_JOBS:
            self._jobs.popitem(last=False)[1].input.close()
        return job

    def _fail(self, order: RunShard, message: str, trouble: Trouble) -> None:
        self._on_outcome(ShardFailed(order.job_id, order.index, order.attempt, message, trouble))


def _lost_rows(error: CorruptShard) -> list[PreparedRow]:
    """Let rows whose input has rotted fail, each by itself; all others of the job go on."""
    logger.error("%s; its %d rows fail", error, len(error.row_indexes))
    fault = RequestError("checksum_mismatch", str(error), stage="validate")
    return [PreparedRow(SealedRow(index, None, {}), fault) for index in error.row_indexes]


def _verdict(suspects: Suspects, sealed: SealedRow) -> RequestError | None:
    message = suspects.verdict(sealed.row_index)
    return None if message is None else RequestError(code="poisoned_row", message=message)
