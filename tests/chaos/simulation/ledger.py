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
    may_end_early: bool = False  # its client asked to cancel it, or gave it a deadline
    failing: list[int] = field(default_factory=list)  # rows, until they are retried
    max_error_rate: float | None = None
    wants_retry: bool = False  # once it has ended
    retry_ids: set[str] = field(default_factory=set)


@dataclass
class Job:
    """What is known of a job from outside."""

    spec: JobSpec
    parts: dict[int, list[Any]] = field(default_factory=dict)  # shard -> rows, while it is linked
    end: str | None = None  # on disk
    was_joined: bool = False  # by the rows of a retry


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
            self._end_changed(action, path)

    def _end_changed(self, action: str, path: Path) -> None:
        job = self.job(path.parent.name)
        end = None if action == "lost" else _read(path)["state"]
        if action == "removed" or (action == "replaced" and end not in COMPLETED):
            self.fail(f"the end of {path.parent.name} was {action}")
        job.was_joined = job.was_joined or action == "replaced"
        job.end = end

    def _part_changed(self, action: str, path: Path) -> None:
        job = self.job(path.parent.parent.name)
        index = int(path.stem.removeprefix("part-"))
        if action == "lost":
            job.parts.pop(index, None)
            return
        rows = [] if action == "removed" else _read(path)["rows"]
        is_joined = action == "replaced" and job.end is not None
        if action in ("removed", "replaced") and not (
            is_joined and _is_better(rows, job.parts.get(index, []))
        ):
            self.fail(f"{path.name} of {job.spec.job_id} had landed and was {action}")
        job.parts[index] = rows

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
        is_late = job.was_joined and job.end is not None  # the table hears of a join at its end
        if state in FINAL and state != job.end and not is_late:
            self.fail(f"{job_id} is called {state}, on disk it is {job.end}")
        if len(landed) != int(fields["shards_landed"]):
            self.fail(f"{job_id}: {fields['shards_landed']} shards counted, {len(landed)} landed")
        missing = [shard for shard in landed if shard not in job.parts]
        if missing:
            self.fail(f"{job_id}: shards {missing} are counted and not on disk")
        num_rows = sum(len(job.parts[shard]) for shard in landed)
        counted = int(fields["succeeded"]) + int(fields["failed"])
        if counted != num_rows:
            self.fail(f"{job_id}: {counted} rows are counted, {num_rows} have landed")
        if state in COMPLETED and len(job.parts) != job.spec.num_shards:
            self.fail(f"{job_id} is {state} with {len(job.parts)} parts")

    # At the end.

    @property
    def is_over(self) -> bool:
        """Whether every order is acknowledged, and its job has ended, in the table too."""
        return all(
            order.job_id
            and not order.wants_retry
            and all(map(self._has_ended, (order.job_id, *order.retry_ids)))
            for order in self.orders
        )

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
        specs = [job_dir.read_spec() for job_dir in JobDir.all(self._settings.jobs_dir)]
        on_disk = sorted(spec.job_id for spec in specs if spec.retry_of is None)
        if ids != on_disk:
            self.fail(f"{len(ids)} orders made the jobs {on_disk}")
        retried = sorted(spec.retry_of for spec in specs if spec.retry_of is not None)
        if retried != sorted({*retried}):
            self.fail(f"one wish to retry made several jobs: {retried}")

    def check_calm(self) -> None:
        """Where nothing went wrong, nothing is done twice."""
        num_shards = sum(job.spec.num_shards for job in self._jobs.values())
        if self.num_computed != num_shards:
            self.fail(f"{self.num_computed} shards were computed, {num_shards} were asked for")

    def _check_order(self, order: Order, job: Job) -> None:
        results = ResultsDir.of(job.spec)
        if job.end in ("cancelled", "expired") and order.may_end_early and not order.retry_ids:
            return
        failing = [] if order.retry_ids else order.failing
        if job.end != ("completed_with_errors" if failing else "completed"):
            self.fail(f"{order.job_id} ended as {job.end}")
        rows = [row for path in results.parts().values() for row in _read(path)["rows"]]
        if rows != [_row(number, number in failing) for number in range(order.num_rows)]:
            self.fail(f"{order.job_id} holds {rows}")
        fields = self._store.data[self._keys.job(job.spec.job_id)]
        if (fields["state"], int(fields["failed"])) != (job.end, len(failing)):
            self.fail(f"{order.job_id} ended as {job.end}, and is told to be {fields}")
        if not results.success.exists() or not results.manifest.exists():
            self.fail(f"{order.job_id} is completed without manifest or _SUCCESS")


def expected_rows(settings: Settings, spec: JobSpec, index: int) -> list[list[Any]]:
    """What a shard's part must hold when it lands. A row that is retried does not fail again."""
    if spec.retry_of is not None:
        with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
            return [_row(row.row_index, False) for row in sealed.shard(index)]
    first = index * spec.shard_rows
    last = min(first + spec.shard_rows, spec.num_rows)
    failing = spec.metadata["failing"].split()
    return [_row(number, str(number) in failing) for number in range(first, last)]


def _row(number: int, fails: bool) -> list[Any]:
    return [number, 0, *(("failed", None) if fails else ("succeeded", f"answer {number}"))]


def _is_better(rows: list[Any], than: list[Any]) -> bool:
    """Whether rows are those that were there, but for some that had failed."""
    numbers = [row[0] for row in rows]
    return [row[0] for row in than] in ([], numbers) and all(
        row in rows for row in than if row[2] == "succeeded"
    )


def _read(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())
