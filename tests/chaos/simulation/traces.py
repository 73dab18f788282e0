"""Random histories of the job table: what to ask of it next, by dice.

Knows `JobTable`'s public methods. An attempt is one that some claim gave out, mostly the right
one; times go on in leaps of up to some seconds, so that leases run out between commands.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from penstock.jobs.control import Control
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobSpec, JobState, ShardRef, TaskSpec
from penstock.jobs.part_counts import PartCounts

Command = Callable[[JobTable], Any]

LEAPS_US = (0, 0, 1, 700, 40_000, 900_000, 4_500_000, 31_000_000)
FINAL_STATES = [state for state in JobState if state.is_final]
NUM_JOBS = 3
MAX_SHARDS = 6


class History:
    """Draws commands one by one, and learns from the answers which attempts there are."""

    def __init__(self, random: Random, now_us: int) -> None:
        self.now_us = now_us
        self._random = random
        self._specs = [self._spec(number) for number in range(NUM_JOBS)]
        self._attempts: list[tuple[str, int, int]] = [(self._specs[0].job_id, 0, 1)]

    def next(self) -> tuple[str, Command]:
        """Let some time pass, and draw a command."""
        random = self._random
        if random.random() < 0.3:
            self.now_us += random.choice(LEAPS_US)
        self.now_us += random.randint(1, 900)
        draw = random.choice(_DRAWN)
        return draw.removeprefix("_"), getattr(self, draw)()

    # Each draws one command.

    def _create(self) -> Command:
        spec, control = self._job(), self._control()
        return lambda table: table.create(spec, control)

    def _rebuild(self) -> Command:
        spec, random = self._job(), self._random
        parts = {s: self._counts(s) for s in range(spec.num_shards) if random.random() < 0.3}
        final = random.choice([None] * 9 + FINAL_STATES[:1])
        control = self._control()
        return lambda table: table.rebuild(spec, parts, final, control=control)

    def _finish(self) -> Command:
        job_id, state = self._job().job_id, self._random.choice(FINAL_STATES)
        at_ms = self._random.choice((None, 1_700_000_123_456))
        return lambda table: table.finish(job_id, state, "because", at_ms=at_ms)

    def _note(self) -> Command:
        job_id = self._job().job_id
        return lambda table: table.note(job_id, "no room")

    def _settle(self) -> Command:
        job_id, control = self._job().job_id, self._control()
        return lambda table: table.settle(job_id, control)

    def _block(self) -> Command:
        job_id = self._job().job_id
        return lambda table: table.block(job_id, "no room")

    def _unblock(self) -> Command:
        job_id = self._job().job_id
        return lambda table: table.unblock(job_id)

    def _issue(self) -> Command:
        job_id, limit = self._job().job_id, self._random.randint(1, 4)
        return lambda table: table.issue(job_id, limit)

    def _claim(self) -> Command:
        ref = ShardRef(self._job().job_id, self._random.randint(0, MAX_SHARDS))
        worker, lease_ms = self._random.choice("abc"), self._random.choice((0, 4_000, 60_000))

        def claim(table: JobTable) -> Any:
            answer = table.claim(ref, worker, lease_ms)
            self._attempts.append((ref.job_id, ref.index, answer.attempt))
            return answer

        return claim

    def _renew(self) -> Command:
        job_id = self._job().job_id
        known = [(index, attempt) for job, index, attempt in self._attempts[-12:] if job == job_id]
        held = self._random.sample(known, min(len(known), self._random.randint(1, 3)))
        held += [(self._random.randint(0, MAX_SHARDS), 10**15)] * (self._random.random() < 0.05)
        return lambda table: table.renew(job_id, held, 4_000)

    def _commit(self) -> Command:
        job_id, index, attempt = self._held()
        counts = self._counts(index)
        return lambda table: table.commit(ShardRef(job_id, index), attempt, counts)

    def _release(self) -> Command:
        job_id, index, attempt = self._held()
        return lambda table: table.release(ShardRef(job_id, index), attempt)

    def _fail(self) -> Command:
        job_id, index, attempt = self._held()
        return lambda table: table.count_failure(ShardRef(job_id, index), attempt)

    def _reap(self) -> Command:
        limit = self._random.randint(1, 5)
        return lambda table: table.reap(limit)

    def _reissue_stale(self) -> Command:
        job_id, older_than_ms = self._job().job_id, self._random.choice((0, 2_000, 30_000))
        limit = self._random.randint(1, 4)
        return lambda table: table.reissue_stale(job_id, older_than_ms, limit)

    def _reopen(self) -> Command:
        spec = self._job()
        shards = [shard for shard in range(spec.num_shards) if self._random.random() < 0.4]
        staying = self._counts(0)
        return lambda table: table.reopen(spec.job_id, shards, staying)

    def _amend(self) -> Command:
        spec, state = self._job(), self._random.choice(FINAL_STATES)
        landed = list(range(self._random.randint(0, spec.num_shards)))
        totals, at_ms = self._counts(0), self.now_us // 1000
        return lambda table: table.amend(spec.job_id, state, totals, landed, at_ms=at_ms)

    def _snapshots(self) -> Command:
        job_ids = [spec.job_id for spec in self._specs]
        return lambda table: table.snapshots(job_ids)

    def _indexes(self) -> Command:
        job_ids = ["job_unknown", *(spec.job_id for spec in self._specs)]
        after = self._random.choice((None, *job_ids[1:]))

        def read(table: JobTable) -> Any:
            in_table = table.open_jobs(), table.unlisted(job_ids), table.now_ms()
            in_table += (table.list(limit=2, tenant="default"),)
            if after is None or not table.unlisted([after]):
                in_table += (table.list(after, 2),)
            return in_table, table.window(job_ids[1]), table.landed(job_ids[1], range(4))

        return read

    def _agenda(self) -> Command:
        since_us, patience_ms = self.now_us - self._random.choice((0, 10**7)), 2_000
        job_id = self._job().job_id

        def read(table: JobTable) -> Any:
            agenda = table.agenda
            named = agenda.stale(patience_ms, 2), agenda.unrenewed(2), agenda.overdue(2)
            hungry = agenda.hungry(since_us, 2), agenda.is_hungry(job_id)
            blocked = agenda.blocked(patience_ms, 2)
            counted = agenda.queued(), agenda.under_way()
            return named, hungry, blocked, agenda.landing(patience_ms, 2), counted

        return read

    # What they are drawn from.

    def _job(self) -> JobSpec:
        return self._random.choice(self._specs)

    def _held(self) -> tuple[str, int, int]:
        recent = self._random.random() < 0.8
        return self._random.choice(self._attempts[-6:] if recent else self._attempts)

    def _counts(self, index: int) -> PartCounts:
        failed = self._random.choice((0, 0, 1, 2))
        errors = {"engine_crashed": failed} if failed else {}
        return PartCounts(2, failed, 10 + index, 5, index, attempt=1, errors=errors)

    def _control(self) -> Control:
        random, control = self._random, Control.of(self._specs[0])
        return replace(
            control,
            priority=random.randint(-1, 1),
            deadline_ms=random.choice((None, self.now_us // 1000 + 5_000)),
            max_error_rate=random.choice((None, 0.5)),
            error_rate_after=4,
            pause_reason=random.choice((None, None, "user")),
        )

    def _spec(self, number: int) -> JobSpec:
        num_shards = self._random.randint(1, MAX_SHARDS)
        return JobSpec(
            job_id=f"job_{number}",
            task=TaskSpec(model=f"model{number % 2}", prompt="{{ row.text }}"),
            num_rows=2 * num_shards - self._random.randint(0, 1),
            num_shards=num_shards,
            shard_rows=2,
            columns={},
            out="/nowhere",
            created_at_ms=self.now_us // 1000 - self._random.choice((-5_000, 0, 5_000)),
        )


_DRAWN = (
    ["_create", "_rebuild", "_finish", "_note", "_settle", "_block", "_unblock", "_reopen"]
    + ["_amend"]
    + ["_issue", "_claim", "_commit"] * 6
    + ["_renew", "_release", "_fail", "_reap", "_reissue_stale"] * 2
    + ["_snapshots", "_indexes", "_agenda"]
)
