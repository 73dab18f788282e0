"""The shards that this worker holds: claimed, kept alive, then committed or handed back.

Knows the job table and the engine process' frames, no Celery: whoever opens a shard is told once
how that ended. One thread does all of it, so the steps of a shard never overtake one another; while
Redis is away that thread waits, and the engine goes on with what it has.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .accusation import accuse
from .engine_process import Loss
from .events import SHARD_LANDED, STATUS, WORKER_RESTARTED, JobEvents
from .frames import AbortShard, RunShard, ShardFailed, ShardLanded, ToEngine, Trouble
from .job_affairs import JobAffairs
from .job_table import Commit, JobTable
from .journal import was_ever_begun
from .model import JobState, ShardRef
from .patience import Patience
from .settings import Settings
from .tasks import ShardBroken, ShardReturned

MAX_FAILURES = 5  # of a shard as a whole, for reasons nobody foresaw
KEPT_S = 10.0  # how long shards wait for another engine when theirs was lost
_RENEW_S = 1.0

Outcome = str | Exception
OnDone = Callable[[Outcome], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    """A shard leased to us."""

    ref: ShardRef
    attempt: int
    tries: int
    on_done: OnDone
    lives: int = 0  # of engines that were given it anew after another had died

    @property
    def order(self) -> RunShard:
        """What the engine process is told."""
        return RunShard(self.ref.job_id, self.ref.index, self.attempt, self.tries + self.lives)


class Custody:
    """Holds shards from claim to commit. Any thread may call it; it never blocks."""

    def __init__(
        self,
        settings: Settings,
        table: JobTable,
        events: JobEvents,
        worker: str,
        *,
        send: Callable[[ToEngine], bool],
        on_job_landed: Callable[[str], None],
        on_given_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.num_retries = 0
        self.num_rows: Counter[str] = Counter()  # committed here, by their error's code
        self._settings = settings
        self._table = table
        self._worker = worker
        self._send = send
        self._on_job_landed = on_job_landed
        self._on_given_up = on_given_up
        self._lease_ms = int(settings.lease_s * 1000)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._held: dict[ShardRef, _Held] = {}
        self._renewed_at_s = 0.0
        self._waiting: set[ShardRef] = set()  # of those held: for the next engine
        self._lost_at_s = 0.0
        self._patience = Patience()
        self._affairs = JobAffairs(settings, table, events, self._patience)
        self._thread = threading.Thread(target=self._run, name="custody", daemon=True)

    @property
    def is_elsewhere(self) -> bool:
        """Whether shards cannot be run here: their jobs are on another disk."""
        return self._affairs.is_elsewhere

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Hand back what is still held, as far as Redis lets us, and stop."""
        self._commands.put(lambda: self._return_all("the worker stops"))
        self._patience.is_over = True
        self._thread.join(timeout_s)

    def open(self, ref: ShardRef, on_done: OnDone) -> None:
        """Claim a shard and run it; `on_done` is called once, from another thread."""
        self._commands.put(lambda: self._claim(ref, on_done))

    def abandon(self, ref: ShardRef) -> None:
        """Stop a shard and hand it back; its `on_done` is not called."""
        self._commands.put(lambda: self._abandon(ref))

    def drain(self) -> None:
        """Hand back the shards of which no row has come to the engine yet."""
        self._commands.put(self._return_unbegun)

    def landed(self, frame: ShardLanded) -> None:
        """Commit a shard whose part is on disk."""
        self._commands.put(lambda: self._commit(frame))

    def failed(self, frame: ShardFailed) -> None:
        """Deal with a shard that could not be run as a whole."""
        self._commands.put(lambda: self._fail(frame))

    def engine_lost(self, loss: Loss, *, is_proof: bool = True) -> None:
        """Keep the shards of an engine that is gone for the next one, but not for long.

        So the rows that may have ended it do not go from worker to worker. It is no proof against
        a row that ran alone when a request ran beside it.
        """
        self._commands.put(lambda: self._lose_engine(loss, is_proof))

    def engine_ready(self) -> None:
        """Give the shards that wait for it to a new engine."""
        self._commands.put(self._resume)

    def step(self, wait_s: float = 0.0) -> None:
        """Do the next thing that was asked for, and renew the leases when it is time to.

        The thread does nothing but this; whoever does not start it may take the steps instead.
        """
        with contextlib.suppress(queue.Empty):
            command = self._commands.get(block=wait_s > 0, timeout=max(wait_s, 0.0))
            try:
                command()
            except Exception:  # a bug here must not end all shards; this one's lease runs out
                logger.exception("a step in a shard's custody failed")
        if time.monotonic() - self._renewed_at_s >= _RENEW_S:
            self._renew()
            if self._waiting and time.monotonic() - self._lost_at_s > KEPT_S:
                self._return_waiting()

    def _run(self) -> None:
        while not (self._patience.is_over and self._commands.empty()):
            self.step(self._renewed_at_s + _RENEW_S - time.monotonic())

    def _claim(self, ref: ShardRef, on_done: OnDone) -> None:
        if ref in self._held:
            on_done("this worker has it already")
            return
        if self._affairs.is_elsewhere:
            on_done(ShardReturned("this worker has another data directory"))
            return
        claim = self._patience.do(lambda: self._table.claim(ref, self._worker, self._lease_ms))
        if claim is None:
            on_done(ShardReturned("Redis is away"))
            return
        if claim.status != "granted":
            on_done(_NOT_GRANTED[claim.status])
            return
        held = _Held(ref, claim.attempt, claim.tries, on_done)
        self._held[ref] = held
        self.num_retries += claim.tries > 1
        if not self._send(held.order):
            self._return(held, "no engine serves right now")

    def _commit(self, frame: ShardLanded) -> None:
        held = self._held_by(frame)
        ref = ShardRef(frame.job_id, frame.index)
        outcome: Outcome = ShardReturned("its commit failed")
        try:
            commit = self._patience.do(lambda: self._table.commit(ref, frame.attempt, frame.counts))
            if commit is None:
                held = None  # we are stopping: `close` hands it back; the next one finds the part
                return
            outcome = _summary(frame) if commit.status != "fenced" else _NOT_OURS
            self._announce(frame, commit)
        finally:
            if held is not None:
                self._end(held, outcome)

    def _announce(self, frame: ShardLanded, commit: Commit) -> None:
        if commit.left == 0:
            self._on_job_landed(frame.job_id)
        if commit.status == "late":
            self._affairs.tidy(frame.job_id)
        if commit.status == "committed":
            counts = frame.counts
            self.num_rows.update({"": counts.rows - counts.failed, **counts.errors})
            data = {"index": frame.index, "rows": counts.rows, "failed": counts.failed}
            self._affairs.tell(frame.job_id, SHARD_LANDED, data)
        if commit.has_paused:
            data = {"status": JobState.PAUSED, "status_reason": "error_rate: too many rows failed"}
            self._affairs.tell(frame.job_id, STATUS, data)

    def _fail(self, frame: ShardFailed) -> None:
        held = self._held_by(frame)
        if held is None:
            return
        ref = held.ref
        logger.error("shard %d of %s: %s", ref.index, ref.job_id, frame.message)
        # Not handed back at once: its lease runs out, which paces the next attempt.
        outcome: Outcome = ShardReturned(frame.message)
        try:
            if frame.trouble is Trouble.STORAGE:
                self._affairs.wait_for_room(ref.job_id, frame.message)
                self._patience.do(lambda: self._table.release(ref, held.attempt))
            elif frame.trouble is Trouble.NEWER:  # another worker is free of it
                self._affairs.note(ref.job_id, f"a worker is too old for this job: {frame.message}")
            what = f"shard {ref.index}: {frame.message}"
            if self._is_hopeless(held, frame.trouble) and self._affairs.fail(ref.job_id, what):
                outcome = ShardBroken(frame.message)
        finally:
            self._end(held, outcome)

    def _is_hopeless(self, held: _Held, trouble: Trouble) -> bool:
        if trouble is not Trouble.UNEXPECTED:
            return trouble is Trouble.LASTING
        count = partial(self._table.count_failure, held.ref, held.attempt)
        return (self._patience.do(count) or 0) >= MAX_FAILURES

    def _abandon(self, ref: ShardRef) -> None:
        held = self._held.get(ref)
        if held is not None:
            self._drop(held)
            self._send(AbortShard(ref.job_id, ref.index, held.attempt))
            self._patience.do(lambda: self._table.release(ref, held.attempt))

    def _return(self, held: _Held, reason: str) -> None:
        self._drop(held)
        try:
            self._patience.do(lambda: self._table.release(held.ref, held.attempt))
        finally:
            held.on_done(ShardReturned(reason))

    def _lose_engine(self, loss: Loss, is_proof: bool) -> None:
        given = {ref: held.attempt for ref, held in self._held.items() if ref not in self._waiting}
        if not self._waiting:
            self._lost_at_s = time.monotonic()
        self._waiting |= given.keys()
        try:
            accuse(self._settings.jobs_dir, given, loss, is_proof=is_proof)
        except Exception:  # whoever is not blamed now is blamed for the next crash
            logger.exception("nobody is blamed for the loss of an engine")
        for ref in given:  # one claimed just now may be with the next engine already
            self._send(AbortShard(ref.job_id, ref.index, given[ref]))
        for job_id in {ref.job_id for ref in given}:
            report = str(loss.report) if loss.report else None
            data = {"worker": self._worker, "reason": str(loss), "report": report}
            self._affairs.tell(job_id, WORKER_RESTARTED, data)

    def _resume(self) -> None:
        for ref in sorted(self._waiting, key=lambda ref: (ref.job_id, ref.index)):
            held = self._held[ref] = replace(self._held[ref], lives=self._held[ref].lives + 1)
            if self._send(held.order):
                self._waiting.discard(ref)

    def _return_waiting(self) -> None:
        for ref in list(self._waiting):
            self._return(self._held[ref], f"no engine serves after {KEPT_S:g} s")
        self._on_given_up()

    def _return_unbegun(self) -> None:
        for ref, held in list(self._held.items()):
            if not was_ever_begun(self._settings.jobs_dir, ref, held.attempt):
                self._send(AbortShard(ref.job_id, ref.index, held.attempt))
                self._return(held, "the worker stops")

    def _return_all(self, reason: str) -> None:
        for held in list(self._held.values()):
            self._return(held, reason)

    def _renew(self) -> None:
        self._renewed_at_s = time.monotonic()
        if self._affairs.is_elsewhere:
            self._affairs.look_around()
        by_job: dict[str, list[_Held]] = {}
        for held in self._held.values():
            by_job.setdefault(held.ref.job_id, []).append(held)
        for job_id, items in by_job.items():
            pairs = [(held.ref.index, held.attempt) for held in items]
            renew = partial(self._table.renew, job_id, pairs, self._lease_ms)
            lost = self._patience.try_once(renew)
            if lost is None:
                return
            for held in items:
                if held.ref.index in lost:
                    self._lose(held)

    def _lose(self, held: _Held) -> None:
        self._drop(held)
        self._send(AbortShard(held.ref.job_id, held.ref.index, held.attempt))
        held.on_done(ShardReturned("the job has ended, or another worker has the shard now"))

    def _end(self, held: _Held, outcome: Outcome) -> None:
        self._drop(held)
        held.on_done(outcome)

    def _drop(self, held: _Held) -> None:
        if self._held.get(held.ref) is held:
            del self._held[held.ref]
            self._waiting.discard(held.ref)

    def _held_by(self, frame: ShardLanded | ShardFailed) -> _Held | None:
        held = self._held.get(ShardRef(frame.job_id, frame.index))
        return held if held is not None and held.attempt == frame.attempt else None


_NOT_GRANTED = {
    "landed": "has landed already",
    "busy": "another worker has it",
    "stopped": "the job has ended or pauses",
    "unknown": "no such job or shard",
}
_NOT_OURS = "landed; not ours any more"


def _summary(frame: ShardLanded) -> str:
    counts = frame.counts
    failed = f", {counts.failed} failed" if counts.failed else ""
    return f"{counts.rows} rows{failed} · {counts.completion_tokens} tokens"
