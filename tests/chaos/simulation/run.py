"""One simulated run: an installation, its clients, what goes wrong, and the verdict.

faults on, for some seconds -> faults off -> everything must end -> the disk is read
"""

import fcntl
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import penstock.jobs.landing
import penstock.jobs.part_file
from penstock.jobs.settings import Settings

from . import parts
from .client import StoreClient
from .cluster import MODEL, Api, Client, Site, Worker
from .disk import Disk
from .faults import Plan, Wire
from .hints import HintApp, hint_of
from .ledger import Ledger, Order
from .store import Store
from .world import SimulatedTime, Violation, World

CALM_S = 180.0  # without faults, everything has ended by then
NAMESPACE = "sim"
MEMORY_DIR = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `violation` is None if every promise was kept."""

    seed: int
    plan: Plan
    violation: str | None
    events: list[str]
    num_computed: int
    lasted_s: float


class Simulation:
    """One run, determined by its seed."""

    def __init__(self, seed: int, root: Path, plan: Plan | None = None) -> None:
        random = Random(seed)
        self.seed = seed
        self.plan = plan or Plan.draw(random)
        self.world = World(random)
        self.store = Store(lambda: self.world.now_us)
        self.wire = Wire(self.world, self.store, self.plan)
        self.disk = Disk(self.world, self.plan, root)
        self.settings = Settings(data=str(root), namespace=NAMESPACE)
        client = StoreClient(self.store, self.wire)
        self.app = HintApp(self.settings, client, self.world, self.plan)
        self.ledger = Ledger(self.world, self.store, self.settings)
        self.site = Site(self.world, self.settings, client, self.app, self.ledger, self.plan.skew_s)
        self._api: Api | None = None
        self._workers: list[Worker] = []
        self._num_started = 0

    def run(self) -> Outcome:
        violation = None
        try:
            with self.disk.mounted():
                self._play()
        except Violation as error:
            violation = str(error)
        began_us = self.world.events[0][0] if self.world.events else self.world.now_us
        return Outcome(
            seed=self.seed,
            plan=self.plan,
            violation=violation,
            events=[_told(each, began_us) for each in self.world.events],
            num_computed=self.ledger.num_computed,
            lasted_s=(self.world.now_us - began_us) / 1e6,
        )

    def _play(self) -> None:
        world, random = self.world, self.world.random
        world.note("begins")
        self.disk.make(self.settings.jobs_dir, self.settings.results_dir)
        self.disk.on_change = self.ledger.disk_changed
        self.store.on_script = self.ledger.scripted
        world.after_step = self.ledger.check
        self._start_api()
        for _ in range(random.choice((1, 2, 2, 3))):
            self._start_worker()
        for number in range(random.choice((1, 1, 2))):
            self._place_order(number)
        self._set_quiet(self.plan.is_calm)
        self.wire.keep_copy()
        for _ in range(self.plan.num_large):
            name, fault = random.choice(self._large_faults())
            world.at(random.uniform(0.0, self.plan.duration_s), name, fault)
        world.run(world.now_us + int(self.plan.duration_s * 1e6))
        world.note("faults end")
        self._set_quiet(True)
        self.wire.is_away = self.wire.is_full = self.disk.is_full = False
        if not world.run(world.now_us + int(CALM_S * 1e6), lambda: self.ledger.is_over):
            world.note("time is up")
        self.ledger.check_end()
        if self.plan.is_calm:
            self.ledger.check_calm()

    def _place_order(self, number: int) -> None:
        random = self.world.random
        order = Order(f"key-{number}", random.randint(1, 9), random.choice((2, 3)))
        self.ledger.orders.append(order)
        cancels = not self.plan.is_calm and random.random() < 0.1
        client = Client(order, lambda: self._api, cancels=cancels)
        self.world.at(
            random.uniform(0.0, 3.0),
            "order",
            lambda: self._spawn_client(number, client),
        )

    def _spawn_client(self, number: int, client: Client) -> None:
        """The client's call runs in the API's process, and dies with it."""

        def step() -> float:
            api = self._api
            if api is None:
                return 0.5
            thread.process = api.process
            return client.step()

        thread = self.world.spawn(self.world.outside, f"client{number}", step)

    def _set_quiet(self, is_quiet: bool) -> None:
        self.wire.is_quiet = self.disk.is_quiet = self.app.is_quiet = is_quiet

    # Processes.

    def _start_api(self) -> None:
        self._num_started += 1
        self._api = Api(self.site, f"api{self._num_started}")
        self._api.process.on_death = self._api_died

    def _api_died(self) -> None:
        self._api = None
        self.world.at(1.0, "api starts", self._start_api)

    def _start_worker(self) -> None:
        self._num_started += 1
        worker = Worker(self.site, f"worker{self._num_started}")
        ends = worker.process.on_death
        assert ends is not None

        def died() -> None:
            ends()
            self._workers.remove(worker)
            self.world.at(self.world.random.uniform(0.5, 3.0), "worker starts", self._start_worker)

        worker.process.on_death = died
        self._workers.append(worker)

    # Large faults.

    def _large_faults(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("a worker is killed", self._kill_worker),
            ("an engine is killed", self._kill_engine),
            ("the api is killed", self._kill_api),
            ("a worker is stopped", self._stop_worker),
            ("a worker is stopped, its engine goes on", self._stop_worker_alone),
            ("Redis is away", lambda: self._for_a_while(self.wire, "is_away")),
            ("Redis is full", lambda: self._for_a_while(self.wire, "is_full")),
            ("the disk is full", lambda: self._for_a_while(self.disk, "is_full")),
            ("Redis is wiped", self._wipe),
            ("Redis restarts empty", lambda: self._restart_store({})),
            ("Redis is rolled back", self._roll_back),
            ("power is lost", self._lose_power),
            ("messages are delivered again", self._redeliver),
            ("messages are lost", self._lose_messages),
            ("messages change their order", self._reorder),
            ("reads become stale", self.wire.keep_copy),
        ]

    def _some_worker(self) -> Worker | None:
        return self.world.random.choice(self._workers) if self._workers else None

    def _kill_worker(self) -> None:
        if worker := self._some_worker():
            self.world.crash(worker.process)

    def _kill_engine(self) -> None:
        if worker := self._some_worker():
            worker.lose_engine()

    def _kill_api(self) -> None:
        if self._api is not None:
            self.world.crash(self._api.process)

    def _stop_worker(self) -> None:
        if worker := self._some_worker():
            duration_s = self.world.random.uniform(1.0, 15.0)
            self.world.stop(worker.process, duration_s)
            if worker.engine is not None:
                self.world.stop(worker.engine, duration_s)

    def _stop_worker_alone(self) -> None:
        if worker := self._some_worker():
            self.world.stop(worker.process, self.world.random.uniform(1.0, 15.0))

    def _for_a_while(self, part: Wire | Disk, state: str) -> None:
        setattr(part, state, True)
        duration_s = self.world.random.uniform(0.5, 10.0)
        self.world.at(duration_s, f"no more {state}", lambda: setattr(part, state, False))

    def _wipe(self) -> None:
        self.store.flush()
        self.ledger.store_changed()

    def _restart_store(self, data: dict[str, Any]) -> None:
        self.store.restart(data)
        self.ledger.store_changed()

    def _roll_back(self) -> None:
        data = self.store.copy()
        ago_s = self.world.random.uniform(0.3, 2.0)
        self.world.at(ago_s, "Redis is back as it was", lambda: self._restart_store(data))

    def _lose_power(self) -> None:
        data = self.store.copy()

        def lose() -> None:
            for process in [worker.process for worker in self._workers]:
                self.world.crash(process)
            self._kill_api()
            self.disk.lose_power()
            self._restart_store(data)

        self.world.at(self.world.random.uniform(0.0, 1.5), "the lights go out", lose)

    def _redeliver(self) -> None:
        for worker in self._workers:
            for ref in worker.open_shards:
                self.store.do("LPUSH", self.app.lane("bulk", MODEL).name, hint_of(ref))

    def _lose_messages(self) -> None:
        self.store.data.pop(self.app.lane("bulk", MODEL).name, None)

    def _reorder(self) -> None:
        self.world.random.shuffle(self.store.data.get(self.app.lane("bulk", MODEL).name, []))


def simulate(seed: int, plan: Plan | None = None) -> Outcome:
    """Play one run. Logs are silent meanwhile."""
    parent = MEMORY_DIR if MEMORY_DIR.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="penstock-simulation-", dir=parent))
    try:
        simulation = Simulation(seed, root, plan)
        with _stood_in_for(simulation):
            return simulation.run()
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _stood_in_for(simulation: Simulation) -> Iterator[None]:
    """Let the product see simulated time, dice and locks, and write parts that cost nothing."""
    world = simulation.world
    dice = Random(simulation.seed)
    stand_ins = {
        time: SimulatedTime(world),
        secrets: SimpleNamespace(
            randbits=dice.getrandbits, token_hex=lambda size: f"{dice.getrandbits(8 * size):x}"
        ),
        fcntl: SimpleNamespace(flock=simulation.disk.flock, LOCK_EX=fcntl.LOCK_EX),
    }
    with ExitStack() as stack:
        for module in [each for name, each in sys.modules.items() if _is_ours(name)]:
            for name, value in list(vars(module).items()):
                if value in (time, secrets, fcntl):
                    stack.enter_context(patch.object(module, name, stand_ins[value]))
        stack.enter_context(patch.object(penstock.jobs.landing, "_encode", parts.encode))
        pq = SimpleNamespace(read_metadata=parts.read_metadata)
        stack.enter_context(patch.object(penstock.jobs.part_file, "pq", pq))
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        yield


def _is_ours(name: str) -> bool:
    return name.startswith("penstock.jobs.")


def _told(event: tuple[int, str, str], began_us: int) -> str:
    at_us, who, what = event
    return f"{(at_us - began_us) / 1e6:9.3f} s  {who:24} {what}"
