"""Faults of whole processes, of the server, of the disk, of the lights. Set for a time, by dice.

A run has a theme, so that faults that only do harm together meet often enough.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .cluster import MODEL, Worker
from .disk import Disk
from .faults import Wire
from .hints import hint_of

if TYPE_CHECKING:
    from .run import Simulation

Fault = Callable[[], None]

THEMES = {
    "anything": "kill engine api stop zombie away full disk wipe empty back power again lost order",
    "processes": "kill engine api stop zombie",
    "zombies": "stop zombie zombie away",
    "the server": "away full wipe empty back stale",
    "the disk": "disk power kill api engine",
    "messages": "again lost order kill",
}


class LargeFaults:
    """What may befall one simulation."""

    def __init__(self, simulation: "Simulation") -> None:
        self._of = simulation
        self._world = simulation.world
        self._faults: dict[str, tuple[str, Fault]] = {
            "kill": ("a worker is killed", self._kill_worker),
            "engine": ("an engine is killed", self._kill_engine),
            "api": ("the api is killed", self._kill_api),
            "stop": ("a worker is stopped", self._stop_worker),
            "zombie": ("a worker is stopped, its engine goes on", self._stop_worker_alone),
            "away": ("Redis is away", lambda: self._for_a_while(simulation.wire, "is_away")),
            "full": ("Redis is full", lambda: self._for_a_while(simulation.wire, "is_full")),
            "disk": ("the disk is full", lambda: self._for_a_while(simulation.disk, "is_full")),
            "wipe": ("Redis is wiped", self._wipe),
            "empty": ("Redis restarts empty", lambda: self._restart_store({})),
            "back": ("Redis fails", self._roll_back),
            "power": ("power begins to fail", self._lose_power),
            "again": ("messages are delivered again", self._redeliver),
            "lost": ("messages are lost", self._lose_messages),
            "order": ("messages change their order", self._reorder),
            "stale": ("reads become stale", simulation.wire.keep_copy),
        }

    def draw(self, count: int) -> list[tuple[str, Fault]]:
        """Draw as many faults, of one theme."""
        random = self._world.random
        theme = THEMES[random.choice(list(THEMES))].split()
        return [self._faults[random.choice(theme)] for _ in range(count)]

    def _some_worker(self) -> Worker | None:
        return self._world.random.choice(self._of.workers) if self._of.workers else None

    def _kill_worker(self) -> None:
        if worker := self._some_worker():
            self._world.crash(worker.process)

    def _kill_engine(self) -> None:
        if worker := self._some_worker():
            worker.lose_engine()

    def _kill_api(self) -> None:
        if self._of.api is not None:
            self._world.crash(self._of.api.process)

    def _stop_worker(self) -> None:
        if worker := self._some_worker():
            duration_s = self._world.random.uniform(1.0, 15.0)
            self._world.stop(worker.process, duration_s)
            if worker.engine is not None:
                self._world.stop(worker.engine, duration_s)

    def _stop_worker_alone(self) -> None:
        if worker := self._some_worker():
            self._world.stop(worker.process, self._world.random.uniform(1.0, 15.0))

    def _for_a_while(self, part: Wire | Disk, state: str) -> None:
        setattr(part, state, True)
        duration_s = self._world.random.uniform(0.5, 10.0)
        self._world.at(duration_s, f"no more {state}", lambda: setattr(part, state, False))

    def _wipe(self) -> None:
        self._of.store.flush()
        self._of.ledger.store_changed()

    def _restart_store(self, data: dict[str, Any]) -> None:
        self._of.store.restart(data)
        self._of.ledger.store_changed()

    def _roll_back(self) -> None:
        data = self._of.store.copy()
        ago_s = self._world.random.uniform(0.3, 2.0)
        self._world.at(ago_s, "Redis is back as it was", lambda: self._restart_store(data))

    def _lose_power(self) -> None:
        data = self._of.store.copy()

        def lose() -> None:
            for process in [worker.process for worker in self._of.workers]:
                self._world.crash(process)
            self._kill_api()
            self._of.disk.lose_power()
            self._restart_store(data)

        self._world.at(self._world.random.uniform(0.0, 1.5), "the lights go out", lose)

    def _redeliver(self) -> None:
        for worker in self._of.workers:
            for ref in worker.open_shards:
                self._of.store.do("LPUSH", self._of.app.lane("bulk", MODEL).name, hint_of(ref))

    def _lose_messages(self) -> None:
        self._of.store.data.pop(self._of.app.lane("bulk", MODEL).name, None)

    def _reorder(self) -> None:
        self._world.random.shuffle(
            self._of.store.data.get(self._of.app.lane("bulk", MODEL).name, [])
        )
