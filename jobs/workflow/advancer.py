"""Advances workflows: makes whatever can be made next, until nothing is left to make.

It looks at what stands on the disk and in the job table, not at what it did before: whoever leads
the queue may take over at any moment, and two who lead for a moment do no harm. What people's
templates compute runs elsewhere (`workshop`), what models answer too (`orders`). A piece of work
that is under way outlives a moment without the lead: it may have taken hours already.

    sources stand -> ask: Wanted -> order -> landed -> ask again, or Made      a step's shard
                  -> compute: Made                                             another's
    all stand     -> gather: Gathered                                          all shards at once
    output step   -> emit: Made                                                a part of the result
"""

import logging
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait

import redis

from ..durable import StorageFull, may_exist
from ..errors import CorruptJob, UnknownJob
from ..events import JobEvents
from ..job_table import JobTable
from ..settings import Settings
from ..workers import WorkerRegister
from .model_revisions import ModelRevisions
from .runs.run_at_work import RunAtWork
from .runs.run_dir import RunDir
from .work import Gather, Outcome, Work
from .workshop.workshop import Workshop

NUM_BENCHES = 2
LEAD_S = 3.0  # without a word from the keeper for so long, somebody else may lead
PATIENCE_S = 60.0  # for so long, what is under way goes on all the same
_TICK_S = 0.1
_LOOK_S = 0.2
_LOOK_AT_A_TIME_S = 0.1  # however many runs there are, their work does not wait for all looks
_FAULT_PAUSE_S = 2.0
_BROKEN_PAUSE_S = 30.0
_AHEAD = 2  # pieces of work per process that wait their turn

logger = logging.getLogger(__name__)


class Advancer:
    """Does so in a thread of its own, as long as `lead` is called every now and then."""

    def __init__(self, settings: Settings, table: JobTable, events: JobEvents) -> None:
        self._settings = settings
        self._table = table
        self._events = events
        self._revisions = ModelRevisions(WorkerRegister(table.redis, table.keys).list)
        self._led_at_s = float("-inf")
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._runs: dict[str, RunAtWork] = {}
        self._broken: dict[str, float] = {}  # runs that could not be opened -> when to try again
        self._futures: dict[Future[Outcome], tuple[RunAtWork, Work]] = {}
        self._workshop: Workshop | None = None
        self._looked_at_s = float("-inf")
        self._ended: set[str] = set()  # runs of which nothing more is begun
        self._unseen: deque[str] = deque()  # runs that were not looked at in this round

    def lead(self) -> None:
        """Go on for a while, if there is a run that wants it."""
        self._led_at_s = time.monotonic()
        is_idle = self._thread is None or not self._thread.is_alive()
        if is_idle and not self._stopping.is_set() and RunDir.unsettled(self._settings.runs_dir):
            self._thread = threading.Thread(target=self._run, name="advancer", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop; whoever leads next goes on from what stands."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        settings = self._settings
        self._workshop = Workshop(settings.data_dir, NUM_BENCHES, operations=settings.workflow_ops)
        try:
            while not self._stopping.is_set():
                if self._silence_s < LEAD_S:
                    self._step()
                elif self._silence_s < PATIENCE_S:
                    self._await_lead()
                else:
                    return
                if not self._runs and not self._futures and not self._broken:
                    return
        finally:
            self._workshop.close()
            self._forget_runs()
            self._ended.clear()
            self._unseen.clear()
            self._futures.clear()

    @property
    def _silence_s(self) -> float:
        return time.monotonic() - self._led_at_s

    def _await_lead(self) -> None:
        """Begin nothing, and let what is under way go on, as long as its run does.

        Somebody else may advance the runs now: they are opened anew when the lead is back.
        """
        self._forget_runs()
        self._broken.clear()
        self._take_outcomes()
        try:
            for run_id in {work.run_id for _, work in self._futures.values()}:
                if self._has_ended(run_id):
                    self._stop_work(run_id)
        except (OSError, CorruptJob) as error:
            logger.warning("it cannot be seen which runs have ended: %s", error)

    def _forget_runs(self) -> None:
        for run in self._runs.values():
            run.close()
        self._runs.clear()

    def _step(self) -> None:
        try:
            self._take_outcomes()
            self._look_around()
            self._begin_work()
        except redis.RedisError as error:
            logger.warning("Redis does not answer; workflows wait: %s", error)
            self._stopping.wait(_FAULT_PAUSE_S)
        except Exception:  # of whatever kind: the other runs must go on
            logger.exception("workflows could not be advanced")
            self._stopping.wait(_FAULT_PAUSE_S)

    def _look_around(self) -> None:
        """Look after all runs in turn, for a while; the next time it goes on where it was."""
        now_s = time.monotonic()
        if not self._unseen and now_s - self._looked_at_s >= _LOOK_S:
            self._looked_at_s = now_s
            self._revisions.look()
            self._find_runs()
            self._unseen.extend(self._runs)
        while self._unseen:
            run = self._runs.get(self._unseen.popleft())
            if run is not None:
                self._look_after(run)
            if time.monotonic() - now_s >= _LOOK_AT_A_TIME_S:
                return

    def _find_runs(self) -> None:
        """Open runs that are new, for a while; there is always a next time."""
        now_s = time.monotonic()
        unsettled = RunDir.unsettled(self._settings.runs_dir)
        self._broken = {each: self._broken[each] for each in unsettled if each in self._broken}
        for run_id in unsettled:
            if run_id in self._runs or self._broken.get(run_id, 0.0) > now_s:
                continue
            self._broken.pop(run_id, None)
            directory = RunDir(self._settings.runs_dir, run_id)
            try:
                self._runs[run_id] = RunAtWork(
                    self._settings, self._table, self._events, directory, self._revisions
                )
            except UnknownJob:
                self._forget_unborn(directory)
            except (CorruptJob, OSError, StorageFull, ValueError) as error:
                logger.error("%s cannot be advanced: %s", run_id, error)
                self._broken[run_id] = now_s + _BROKEN_PAUSE_S
            except Exception:  # the others must go on
                logger.exception("%s cannot be advanced", run_id)
                self._broken[run_id] = now_s + _BROKEN_PAUSE_S
            if time.monotonic() - now_s >= _LOOK_AT_A_TIME_S:
                return

    def _forget_unborn(self, directory: RunDir) -> None:
        """Let go of a run that was never sealed; one that is being sealed has a moment yet."""
        self._broken[directory.run_id] = time.monotonic() + 5.0
        if not directory.path.exists():
            directory.settle()
            self._broken.pop(directory.run_id, None)

    def _look_after(self, run: RunAtWork) -> None:
        try:
            if self._has_ended(run.run_id):
                self._ended.add(run.run_id)
                if self._stop_work(run.run_id):
                    return  # it would go on writing when the run has been removed
            if run.look_after():
                del self._runs[run.run_id]
                self._ended.discard(run.run_id)
        except (OSError, StorageFull) as error:
            run.note(f"storage_unavailable: {error}")
        except redis.RedisError:
            raise
        except Exception:  # of whatever kind, it is this run's: the disk knows it better than we do
            self._give_up(run)

    def _give_up(self, run: RunAtWork) -> None:
        """Forget what is known of a run, so that it is found anew on the disk."""
        logger.exception("%s cannot be advanced; it is opened anew", run.run_id)
        self._runs.pop(run.run_id, None)
        run.close()
        self._broken[run.run_id] = time.monotonic() + _FAULT_PAUSE_S

    def _has_ended(self, run_id: str) -> bool:
        directory = RunDir(self._settings.runs_dir, run_id)
        return directory.read_final() is not None or not may_exist(directory.spec)

    def _stop_work(self, run_id: str) -> bool:
        """End what is under way of a run that has ended; returns whether something still is."""
        assert self._workshop is not None
        pieces = [each for each, (_, work) in self._futures.items() if work.run_id == run_id]
        for piece in pieces:
            piece.cancel()  # if it has not begun
        if pieces:
            self._workshop.stop(run_id)
        return bool(pieces)

    def _begin_work(self) -> None:
        """Give the workshop enough to do, of every run in turn."""
        assert self._workshop is not None
        num_shards = sum(not isinstance(work, Gather) for _, work in self._futures.values())
        room = _AHEAD * self._workshop.num_benches - num_shards
        runs = [run for run_id, run in self._runs.items() if run_id not in self._ended]
        while room > 0 and runs:
            run = runs.pop(0)
            try:
                work = run.next_work()
            except redis.RedisError:
                raise
            except Exception:  # the others must go on
                self._give_up(run)
                continue
            if work is not None:
                self._futures[self._under_way(work) or self._workshop.submit(work)] = (run, work)
                room -= not isinstance(work, Gather)  # these wait for nobody but each other
                runs.append(run)
                self._runs[run.run_id] = self._runs.pop(run.run_id)  # next time, others first

    def _under_way(self, work: Work) -> Future[Outcome] | None:
        """Find a piece that has outlived its run's being opened anew."""
        return next((future for future, (_, each) in self._futures.items() if each == work), None)

    def _take_outcomes(self) -> None:
        """Wait a little for pieces of work to be done, and take what came of them."""
        if not self._futures:
            self._stopping.wait(_TICK_S)
            return
        done, _ = wait(self._futures, timeout=_TICK_S, return_when=FIRST_COMPLETED)
        for future in done:
            run, work = self._futures.pop(future)
            if future.cancelled() or self._runs.get(run.run_id) is not run:
                continue
            try:
                run.take(work, future.result())
            except Exception:  # also of a full disk: what it had in hand is on no disk yet
                self._give_up(run)
