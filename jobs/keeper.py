"""Keeps the queue whole: one thread in every worker and API process, of which one leads.

    feed       issue shards to the queues                    ten times a second
    reap       hand back the shards of silent workers        twice a second
    reissue    find messages that were lost                  once a second
    restore    make the job table again after Redis lost it  once a second, if need be
    measure    look how much tenants store                   every five seconds
    enter      list jobs that were made while Redis was away every five seconds
    expire     end jobs that have passed their deadline      once a second
    unblock    let jobs go on that waited for room on a disk every two seconds
    finalize   complete jobs that no worker completed        every two seconds
    advance    let workflows go on (see `advancer`)          twice a second
    sweep      remove what killed processes left on disk     every hour

Every step is atomic in Redis and harmless when repeated, so it does not matter if two lead for a
moment. Leadership only saves work.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import kombu.exceptions
import redis

from .app import PenstockApp, create_app
from .ending import expire
from .errors import CorruptJob, UnknownJob
from .events import DONE, STATUS, JobEvents
from .feeder import Feeder
from .installation import installation_id, whereabouts
from .job_table import JobTable
from .model import JobState
from .reconciler import HELD_UP, rebuild_all, reconcile, unlisted
from .redis_client import connect
from .settings import Settings
from .slow_chores import SlowChores
from .workers import WorkerRegister
from .workflow.advancer import Advancer

TICK_S = 0.1
LEADERSHIP_MS = 3_000
_ELECTION_S = 1.0
_LANDING_PATIENCE_S = 3.0
_REAP_LIMIT = 1_000
_JOBS_AT_A_TIME = 100
_BLOCKED_PATIENCE_MS = 2_000
_FAULT_PAUSE_S = 5.0
_AWAY = (redis.ConnectionError, redis.TimeoutError, kombu.exceptions.OperationalError)

_LEAD = """
-- Take the leadership if nobody has it, prolong it if it is ours: 1 if it is then, else 0; -1 if
-- the table is made from another data directory. Who was told so once may not name its own.
-- KEYS: leader, installation. ARGV: owner, ms, installation of the owner, whether it may name it.
local home = redis.call('GET', KEYS[2])
if not home and ARGV[3] ~= '' and ARGV[4] == '1' then
  redis.call('SET', KEYS[2], ARGV[3])
  home = ARGV[3]
end
if (home or '') ~= ARGV[3] then
  return -1
end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_YIELD = """
-- Give the leadership up if it is ours. KEYS: leader. ARGV: owner.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""

logger = logging.getLogger(__name__)


class Keeper:
    """Runs the chores of the whole queue while it leads. `start` and `stop` come in pairs.

    What it reaches the world through can be handed in; by default it makes its own.

    Attributes:
        is_leading: whether it does the chores just now.
        is_elsewhere: whether the table is made from another data directory than the one found here.
    """

    def __init__(
        self,
        settings: Settings,
        owner: str,
        *,
        app: PenstockApp | None = None,
        client: redis.Redis | None = None,
        completer: Executor | None = None,
    ) -> None:
        self.is_leading = False
        self.is_elsewhere = False
        self._settings = settings
        self._owner = owner
        self._app = app or create_app(settings)
        self._redis: Any = client or connect(settings)
        self._table = JobTable(self._redis, self._app.keys)
        self._events = JobEvents(self._redis, self._app.keys)
        self._feeder = Feeder(self._app, self._table, WorkerRegister(self._redis, self._app.keys))
        self._lead = self._redis.register_script(_LEAD)
        self._yield = self._redis.register_script(_YIELD)
        self._slow = SlowChores(settings, self._table, self._events, completer)
        self._advancer = Advancer(settings, self._table, self._events)
        self._unreadable: set[str] = set()
        self._chores: list[tuple[float, Callable[[], object]]] = [
            (_ELECTION_S, self._restore),
            (0.0, self._feeder.feed),
            (0.5, self._reap),
            (1.0, self._feeder.reissue),
            (1.0, self._expire),
            (2.0, self._unblock),
            (2.0, self._finalize),
            (0.5, self._advancer.lead),
            (5.0, self._enter),
            (5.0, lambda: self._slow.measure(self._feeder.measure_stored)),
            (3600.0, self._slow.sweep),
        ]
        self._done_at_s = [float("-inf")] * len(self._chores)
        self.num_reaped = 0
        self._elected_at_s = float("-inf")
        self._is_away = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Stand for leadership from now on."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop, and let another keeper lead at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._advancer.close()
        self._slow.close()
        self._app.close()
        self._redis.close()

    def step(self) -> float:
        """Do what it is time for; returns after how many seconds to come again.

        The thread does nothing but this; whoever does not start it may take the steps instead.
        """
        try:
            self._tick()
        except _AWAY as error:
            if not self._is_away:
                logger.warning("Redis does not answer; the queue is not kept: %s", error)
            self._is_away, self.is_leading = True, False
            return _ELECTION_S
        except Exception:  # a Redis out of memory refuses even elections; it may recover
            logger.exception("no keeper could be elected")
            return _FAULT_PAUSE_S
        self._is_away = False
        return TICK_S

    def _run(self) -> None:
        wait_s = TICK_S
        while not self._stopping.wait(wait_s):
            wait_s = self.step()
        if self.is_leading and not self._is_away:
            self._give_up_lead()

    def _tick(self) -> None:
        self._elect()
        if not self.is_leading:
            return
        now_s = time.monotonic()
        for number, (every_s, chore) in enumerate(self._chores):
            if now_s - self._done_at_s[number] >= every_s:
                self._done_at_s[number] = now_s
                try:
                    chore()
                except _AWAY:
                    raise
                except Exception:  # it may do better next time, and the others must go on
                    logger.exception("a chore of the keeper failed")
                    self._done_at_s[number] = now_s + _FAULT_PAUSE_S

    def _elect(self) -> None:
        """Take the leadership, or keep it, when it is time to."""
        now_s = time.monotonic()
        if now_s - self._elected_at_s >= _ELECTION_S:
            keys, home = self._app.keys, installation_id(self._settings.data_dir)
            election = [self._owner, LEADERSHIP_MS, home, int(not self.is_elsewhere)]
            answer = self._lead([keys.leader("keeper"), keys.installation], election)
            self.is_leading = answer == 1
            self._elected_at_s = now_s
            self._note_elsewhere(answer == -1)

    def _note_elsewhere(self, is_elsewhere: bool) -> None:
        """Leave the lead to those who have the queue's data directory, and say so once."""
        if is_elsewhere and not self.is_elsewhere:
            logger.error("this process does not keep the queue: %s", whereabouts(self._settings))
            self._give_up_lead()
        self.is_elsewhere = is_elsewhere

    def _give_up_lead(self) -> None:
        try:
            self._yield([self._app.keys.leader("keeper")], [self._owner])
        except redis.RedisError:
            logger.debug("the leadership will expire by itself")

    def _restore(self) -> None:
        """Make the job table again when Redis started anew: wiped, or back at an older state.

        The mark names the run of the server for which this was done. It is gone if Redis lost
        everything, and another one's if Redis restarted. Jobs that are held up are noted beside it,
        as another keeper may lead by the time that they can be read.
        """
        keys = self._app.keys
        run_id = self._redis.info("server")["run_id"]
        if self._redis.get(keys.restored) == run_id:
            return
        restored = rebuild_all(
            self._settings,
            self._table,
            on_job=self._elect,
            on_held_up=lambda job_id: self._redis.sadd(keys.held_up, job_id),
        )
        if restored:
            logger.warning("restored %d jobs from %s", len(restored), self._settings.jobs_dir)
        self._redis.set(keys.restored, run_id)

    def _reap(self) -> None:
        reaped = self._table.reap(_REAP_LIMIT)
        self.num_reaped += len(reaped)
        if reaped:
            logger.warning("%d shards of silent workers will run again", len(reaped))

    def _enter(self) -> None:
        """List jobs that were made while Redis was away, or could not be restored before."""
        held_up = self._redis.smembers(self._app.keys.held_up)
        wanted = {*unlisted(self._settings, self._table), *held_up} - self._unreadable
        for job_id in sorted(wanted):
            try:
                reconcile(self._settings, self._table, job_id, lock_wait_s=0.0)
                logger.info("%s was not in the table as it is on disk; it is now", job_id)
            except UnknownJob:
                logger.info("%s is not there any more", job_id)
            except CorruptJob as error:
                logger.error("%s; the job is passed over", error)
                self._unreadable.add(job_id)
            except HELD_UP as error:
                logger.warning("%s cannot be restored yet: %s", job_id, error)
                continue
            if job_id in held_up:
                self._redis.srem(self._app.keys.held_up, job_id)

    def _finalize(self) -> None:
        patience_ms = int(_LANDING_PATIENCE_S * 1000)
        self._slow.complete(self._table.agenda.landing(patience_ms, _JOBS_AT_A_TIME))

    def _unblock(self) -> None:
        if not self._slow.is_looking_for_room:
            blocked = self._table.agenda.blocked(_BLOCKED_PATIENCE_MS, _JOBS_AT_A_TIME)
            self._slow.look_for_room(blocked)

    def _expire(self) -> None:
        for job_id in self._table.agenda.overdue(_JOBS_AT_A_TIME):
            try:
                snapshot = expire(self._settings, self._table, job_id)
            except (CorruptJob, *HELD_UP) as error:  # no reason to let the others run on
                logger.warning("%s has passed its deadline and cannot end: %s", job_id, error)
                continue
            if snapshot is not None and snapshot.state is JobState.EXPIRED:
                logger.info("%s has passed its deadline", job_id)
                self._events.publish(job_id, STATUS, {"status": snapshot.state})
                self._events.publish(job_id, DONE, {"status": snapshot.state})
