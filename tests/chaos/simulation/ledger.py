"""What was promised, kept outside of the system, and the checks that it was kept.

I1   a row that was accepted ends, once                        at the end
I2   one part per shard, one row per row; never changed        at every change of a part
I3   no row and no job fails for a fault around it             at the end
I7   counts are those of parts on disk; an end stays an end    after every step
I10  nothing that has landed is computed again; one at a time  as it happens
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from penstock.jobs.job_dir import JobDir
from penstock.jobs.keys import Keys
from penstock.jobs.model import JobSpec, ShardRef
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings

from .store import Store
from .world import Violation

FINAL = frozenset({"completed", "completed_with_errors", "failed", "cancelled", "expired"})
COMPLETED = frozenset({"completed", "completed_with_errors"})


@dataclass
class Order:
    """One submission of a client: it is sent until it is acknowledged, under the same key."""

    key: str
    num_rows: int
    shard_rows: int
    job_id: str | None = None  # once acknowledged
    may_end_early: bool = False  # its client asked to cancel it


@dataclass
class Job:
    """What is known of a job from outside."""

    spec: JobSpec
    parts: dict[int, int] = field(default_factory=dict)  # shard -> rows, while it is linked
    end: str | None = None  # on disk


class Ledger:
    """Follows what happens to the disk and the store, and raises what must not."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.orders: list[Order] = []
        self.num_computed = 0
        self._store = store
        self._settings = settings
        self._keys = Keys(settings.namespace)
        self._jobs: dict[str, Job] = {}
        self._holders: dict[tuple[str, str], str] = {}
        self._leased_until_ms: dict[tuple[str, str], int] = {}
        self._num_writes = -1

    def fail(self, what: str) -> None:
        """Say which promise was broken."""
        raise Violation(what)

    def job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            self._jobs[job_id] = Job(JobDir(self._settings.jobs_dir, job_id).read_spec())
        return self._jobs[job_id]

    # As it happens.

    def disk_changed(self, action: str, path: Path) -> None:
        """Hear of a name on disk that was made, replaced, removed, or lost with the power."""
        if path.name.startswith("part-") and path.suffix == ".parquet":
            self._part_changed(action, path)
        elif path.name == "final.json":
            job = self.job(path.parent.name)
            if action in ("removed", "replaced"):
                self.fail(f"the end of {path.parent.name} was {action}")
            job.end = None if action == "lost" else _read(path)["state"]

    def _part_changed(self, action: str, path: Path) -> None:
        job = self.job(path.parent.parent.name)
        index = int(path.stem.removeprefix("part-"))
        if action in ("removed", "replaced"):
            self.fail(f"{path.name} of {job.spec.job_id} had landed and was {action}")
        elif action == "lost":
            job.parts.pop(index, None)
        else:
            job.parts[index] = len(_read(path)["rows"])

    def computes(self, ref: ShardRef) -> None:
        """Hear that an engine begins to compute a shard."""
        self.num_computed += 1
        if ref.index in self.job(ref.job_id).parts:
            self.fail(f"{ref} has landed and is computed again")

    def scripted(self, title: str, keys: list[str], words: list[str], answer: Any) -> None:
        """Hear of a script that ran, with its answer: who holds what, and until when."""
        now_ms = self._store.now_us() // 1000
        match title:
            case "claim" if answer[0] == "granted":
                place = keys[0], words[0]
                if self._leased_until_ms.get(place, 0) > now_ms:
                    self.fail(f"{place} is leased, and was given to {words[1]}")
                self._holders[place] = str(answer[1])
                self._leased_until_ms[place] = now_ms + int(words[2])
            case "renew":
                leases = self._store.data.get(keys[2], {})
                for shard, attempt in zip(words[1::2], words[2::2], strict=True):
                    if int(shard) not in answer and shard in leases:
                        self._holders.setdefault((keys[0], shard), attempt)
                        self._leased_until_ms[keys[0], shard] = now_ms + int(words[0])
            case "release" if answer == 1:
                self._handed_back(keys[0], words[0])
            case "reap":
                for shard in answer:
                    if self._leased_until_ms.get((keys[0], shard), 0) > now_ms:
                        self.fail(f"{keys[0]} shard {shard} was reaped while its lease ran")
                    self._handed_back(keys[0], shard)
            case "commit" if answer[0] == "committed":
                holder = self._holders.get((keys[0], words[0]), words[1])
                if holder != words[1]:
                    self.fail(f"{keys[0]} shard {words[0]}: a stale attempt was committed")

    def _handed_back(self, key: str, shard: str) -> None:
        self._holders[key, shard] = "nobody"
        self._leased_until_ms.pop((key, shard), None)

    def store_changed(self) -> None:
        """Hear that the store has lost something: who held what is not known any more."""
        self._holders.clear()
        self._leased_until_ms.clear()

    # After every step.

    def check(self) -> None:
        """Hold the store against the disk."""
        if self._store.num_writes == self._num_writes:
            return
        self._num_writes = self._store.num_writes
        for job_id in self._store.data.get(self._keys.jobs, ()):
            fields = self._store.data.get(self._keys.job(job_id))
            if fields is not None:
                self._check_job(job_id, fields)

    def _check_job(self, job_id: str, fields: dict[str, str]) -> None:
        job = self.job(job_id)
        landed = self._store.data.get(self._keys.job(job_id, "landed"), ())
        state = fields["state"]
        if state in FINAL and state != job.end:
            self.fail(f"{job_id} is called {state}, on disk it is {job.end}")
        if len(landed) != int(fields["shards_landed"]):
            self.fail(f"{job_id}: {fields['shards_landed']} shards counted, {len(landed)} landed")
        missing = [shard for shard in landed if shard not in job.parts]
        if missing:
            self.fail(f"{job_id}: shards {missing} are counted and not on disk")
        num_rows = sum(job.parts[shard] for shard in landed)
        counted = int(fields["succeeded"]) + int(fields["failed"])
        if counted != num_rows:
            self.fail(f"{job_id}: {counted} rows are counted, {num_rows} have landed")
        if state in COMPLETED and len(job.parts) != job.spec.num_shards:
            self.fail(f"{job_id} is {state} with {len(job.parts)} parts")

    # At the end.

    @property
    def is_over(self) -> bool:
        """Whether every order is acknowledged, and its job has ended, in the table too."""
        return all(order.job_id and self._has_ended(order.job_id) for order in self.orders)

    def _has_ended(self, job_id: str) -> bool:
        fields = self._store.data.get(self._keys.job(job_id), {})
        return fields.get("state") in FINAL

    def check_end(self) -> None:
        """Hold the disk against the orders: every row of each, once, right."""
        for order in self.orders:
            if order.job_id is None:
                self.fail(f"the order {order.key} was never acknowledged")
            elif not self._has_ended(order.job_id):
                fields = self._store.data.get(self._keys.job(order.job_id))
                self.fail(f"{order.job_id} has not ended: {fields}")
            else:
                self._check_order(order, self.job(order.job_id))
        ids = sorted(order.job_id or "" for order in self.orders)
        on_disk = sorted(job_dir.job_id for job_dir in JobDir.all(self._settings.jobs_dir))
        if ids != on_disk:
            self.fail(f"{len(ids)} orders made the jobs {on_disk}")

    def check_calm(self) -> None:
        """Where nothing went wrong, nothing is done twice."""
        num_shards = sum(job.spec.num_shards for job in self._jobs.values())
        if self.num_computed != num_shards:
            self.fail(f"{self.num_computed} shards were computed, {num_shards} were asked for")

    def _check_order(self, order: Order, job: Job) -> None:
        results = ResultsDir.of(job.spec)
        if job.end == "cancelled" and order.may_end_early:
            return
        if job.end != "completed":
            self.fail(f"{order.job_id} ended as {job.end}")
        rows = []
        for index, path in results.parts().items():
            found = _read(path)["rows"]
            if found != expected_rows(job.spec, index):
                self.fail(f"{path} holds {found}")
            rows += found
        if len(rows) != order.num_rows:
            self.fail(f"{order.job_id} has {len(rows)} of {order.num_rows} rows")
        if not results.success.exists() or not results.manifest.exists():
            self.fail(f"{order.job_id} is completed without manifest or _SUCCESS")


def expected_rows(spec: JobSpec, index: int) -> list[list[Any]]:
    """What a shard's part must hold."""
    first = index * spec.shard_rows
    last = min(first + spec.shard_rows, spec.num_rows)
    return [[row, 0, "succeeded", f"answer {row}"] for row in range(first, last)]


def _read(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())
