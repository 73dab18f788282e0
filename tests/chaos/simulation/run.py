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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest.mock import patch

import penstock.jobs.joining
import penstock.jobs.landing
import penstock.jobs.part_file
from penstock.jobs.settings import Settings

from . import parts
from .client import StoreClient
from .cluster import Api, Site, Worker
from .customer import Customer
from .disk import Disk
from .faults import Plan, Wire
from .hints import HintApp
from .large_faults import LargeFaults
from .ledger import Ledger, Order
from .store import Store
from .world import SimulatedTime, Violation, World

CALM_S = 180.0  # without faults, everything has ended by then
NAMESPACE = "sim"
VERBS = (
    *((),) * 6,
    *(("cancel",), ("pause", "resume"), ("prioritize", "pause", "resume")),
    *(("hurry",), ("hurry", "take time"), ("pause", "hurry")),
)
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
        self.ledger = Ledger(self.store, self.settings)
        self.site = Site(self.world, self.settings, client, self.app, self.ledger, self.plan.skew_s)
        self.api: Api | None = None
        self.workers: list[Worker] = []
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
        for name, fault in LargeFaults(self).draw(self.plan.num_large):
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
        verbs = () if self.plan.is_calm else random.choice(VERBS)
        if not self.plan.is_calm and random.random() < 0.15:
            order.failing = random.sample(range(order.num_rows), random.randint(1, order.num_rows))
            order.max_error_rate = random.choice((None, 0.0, 0.5))
        if order.max_error_rate is not None:
            verbs = (*verbs, "attend")
        if not self.plan.is_calm and random.random() < 0.15:
            verbs, order.wants_retry = (*verbs, "retry"), True
        arrives_s = random.uniform(0.0, 3.0)
        self._spawn_client(f"client{number}", Customer(order, verbs), arrives_s)
        if not self.plan.is_calm and random.random() < 0.3:
            impatient = Customer(order, (), asks_anyway=True)
            asks_at_s = arrives_s + random.uniform(0.0, 6.0)
            self._spawn_client(f"client{number} again", impatient, asks_at_s)

    def _spawn_client(self, name: str, client: Customer, arrives_s: float) -> None:
        """A client's call runs in the API's process, and dies with it."""

        def step() -> float:
            if self.api is None:
                return 0.5
            thread.process = self.api.process
            return client.step(self.api)

        thread = self.world.spawn(self.world.outside, name, step, arrives_s)

    def _set_quiet(self, is_quiet: bool) -> None:
        self.wire.is_quiet = self.disk.is_quiet = self.app.is_quiet = is_quiet

    # Processes.

    def _start_api(self) -> None:
        self._num_started += 1
        self.api = Api(self.site, f"api{self._num_started}")
        self.api.process.on_death = self._api_died

    def _api_died(self) -> None:
        self.api = None
        self.world.at(1.0, "api starts", self._start_api)

    def _start_worker(self) -> None:
        self._num_started += 1
        worker = Worker(self.site, f"worker{self._num_started}")
        ends = worker.process.on_death
        assert ends is not None

        def died() -> None:
            ends()
            self.workers.remove(worker)
            self.world.at(self.world.random.uniform(0.5, 3.0), "worker starts", self._start_worker)

        worker.process.on_death = died
        self.workers.append(worker)


def simulate(seed: int, plan: Plan | None = None) -> Outcome:
    """Play one run. Logs are silent meanwhile."""
    parent = MEMORY_DIR if MEMORY_DIR.is_dir() else None
    home = Path(tempfile.mkdtemp(prefix="penstock-simulation-", dir=parent))
    root = home / "data"  # as traces call it, the same in every run
    root.mkdir()
    try:
        simulation = Simulation(seed, root, plan)
        with _stood_in_for(simulation):
            return simulation.run()
    finally:
        shutil.rmtree(home, ignore_errors=True)


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
        fcntl: SimpleNamespace(
            flock=simulation.disk.flock, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB
        ),
    }
    with ExitStack() as stack:
        for module in [each for name, each in sys.modules.items() if _is_ours(name)]:
            for name, value in list(vars(module).items()):
                if any(value is each for each in stand_ins):
                    stack.enter_context(patch.object(module, name, stand_ins[value]))
        stack.enter_context(patch.object(penstock.jobs.landing, "_encode", parts.encode))
        stack.enter_context(patch.object(penstock.jobs.joining, "encode_part", parts.encode_table))
        pq = SimpleNamespace(read_metadata=parts.read_metadata, ParquetFile=parts.PartReader)
        stack.enter_context(patch.object(penstock.jobs.part_file, "pq", pq))
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        yield


def _is_ours(name: str) -> bool:
    return name.startswith("penstock.jobs.")


def _told(event: tuple[int, str, str], began_us: int) -> str:
    at_us, who, what = event
    return f"{(at_us - began_us) / 1e6:9.3f} s  {who:24} {what}"
