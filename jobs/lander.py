"""Lands finished shards in a thread of its own: fsync takes time, and the engine must not wait."""

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from .errors import UnknownJob
from .frames import ShardFailed, ShardLanded, Trouble
from .job_dir import JobDir
from .landing import CorruptPart, StorageFull, land
from .shard_run import ShardRun

logger = logging.getLogger(__name__)


class Lander:
    """Writes parts one after another and tells how each ended."""

    def __init__(
        self, on_outcome: Callable[[ShardLanded | ShardFailed], None], jobs_dir: Path
    ) -> None:
        self._on_outcome = on_outcome
        self._jobs_dir = jobs_dir
        self._runs: queue.SimpleQueue[ShardRun] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lander", daemon=True)

    def start(self) -> None:
        """Start landing."""
        self._thread.start()

    def submit(self, run: ShardRun) -> None:
        """Land a shard whose rows have all ended."""
        self._runs.put(run)

    def _run(self) -> None:
        while True:
            run = self._runs.get()
            outcome = self._land(run)
            if isinstance(outcome, ShardLanded):
                _remove_traces(run)
            else:  # the next attempt need not compute its rows
                run.save()
                run.close()
            self._on_outcome(outcome)

    def _land(self, run: ShardRun) -> ShardLanded | ShardFailed:
        job_id, index, attempt = run.key
        try:
            job_dir = JobDir(self._jobs_dir, job_id)
            counts = land(run.spec, index, attempt, run.landed_rows(), job_dir=job_dir)
        except UnknownJob as error:
            logger.info("shard %d of %s is done, but the job was removed", index, job_id)
            return ShardFailed(job_id, index, attempt, str(error), Trouble.LASTING)
        except StorageFull as error:
            return ShardFailed(job_id, index, attempt, f"storage_full: {error}", Trouble.STORAGE)
        except OSError as error:  # read-only, or the network is down between us and the disk
            message = f"storage_unavailable: cannot write below {run.spec.out}: {error}"
            return ShardFailed(job_id, index, attempt, message, Trouble.STORAGE)
        except CorruptPart as error:
            return ShardFailed(job_id, index, attempt, str(error), Trouble.LASTING)
        except Exception as error:
            logger.exception("cannot land shard %d of %s", index, job_id)
            return ShardFailed(job_id, index, attempt, f"{type(error).__name__}: {error}")
        return ShardLanded(job_id, index, attempt, counts)


def _remove_traces(run: ShardRun) -> None:
    try:
        run.remove_traces()
    except OSError as error:  # its rows have landed, whatever lies about; others wait to land
        logger.warning("traces of shard %d of %s are left: %s", run.key[1], run.key[0], error)
