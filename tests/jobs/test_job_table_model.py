"""The job table against a plain model: random histories of several workers, on the real server."""

from collections.abc import Callable
from dataclasses import replace

import redis
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import Counts, JobSpec, JobState, ShardRef, new_job_id
from penstock.jobs.part_counts import PartCounts

from .conftest import SpecMaker
from .model_job import ModelJob

WORKERS = ("w1", "w2", "w3")
LEASES_MS = (0, 60_000)  # run out at once, or not within a test
PLACES = ("queued", "leases", "retry")

MAX_JOBS = 2
MAX_SHARDS = 4

jobs = st.integers(0, MAX_JOBS - 1)
shards = st.integers(0, MAX_SHARDS)  # one more than there can be
leases = st.sampled_from(LEASES_MS)
seldom = st.sampled_from([False] * 9 + [True])  # for what leaves little to do afterwards


class JobTableMachine(RuleBasedStateMachine):
    client: redis.Redis
    make_spec: Callable[..., JobSpec]

    def __init__(self) -> None:
        super().__init__()
        self.table = JobTable(self.client, Keys(new_job_id("ns")))
        self.jobs: list[ModelJob] = []

    def teardown(self) -> None:
        for key in self.client.scan_iter(f"{self.table.keys.namespace}:*"):
            self.client.delete(key)

    def pick(self, number: int) -> ModelJob | None:
        return self.jobs[number % len(self.jobs)] if self.jobs else None

    @initialize(num_rows=st.integers(1, 3 * MAX_SHARDS))
    def create_first(self, num_rows: int) -> None:
        self.create(num_rows)

    @rule(num_rows=st.integers(1, 3 * MAX_SHARDS))
    def create(self, num_rows: int) -> None:
        if len(self.jobs) < MAX_JOBS:
            picky: dict[str, float] = {"max_error_rate": 0.2, "error_rate_after": 4}
            spec = self.make_spec(num_rows, shard_rows=3, **picky if num_rows % 2 else {})
            assert self.table.create(spec)
            self.jobs.append(ModelJob(spec))

    @rule(number=jobs)
    def create_again(self, number: int) -> None:
        if job := self.pick(number):
            assert not self.table.create(job.spec)

    @rule(number=jobs, limit=st.integers(1, 6))
    def issue(self, number: int, limit: int) -> None:
        job = self.pick(number)
        if job is None:
            return
        issued = self.table.issue(job.spec.job_id, limit)
        if not job.state.is_open:
            assert issued == []
            return
        returned, fresh = job.at("retry"), job.at("unissued")
        assert len(issued) == len(set(issued)) == min(limit, len(returned) + len(fresh))
        assert len(returned & set(issued)) == min(limit, len(returned))  # these go first
        rest = [shard for shard in issued if shard not in returned]
        assert rest == sorted(fresh)[: len(rest)]
        for shard in issued:
            job.place[shard] = "queued"

    @rule(number=jobs, shard=shards, worker=st.sampled_from(WORKERS), lease_ms=leases)
    def claim(self, number: int, shard: int, worker: str, lease_ms: int) -> None:
        job = self.pick(number)
        if job is None:
            return
        claim = self.table.claim(ShardRef(job.spec.job_id, shard), worker, lease_ms)
        if shard >= job.spec.num_shards:
            assert claim.status == "unknown"
        elif job.place[shard] == "landed":
            assert claim.status == "landed"
        elif not job.state.is_open:
            assert claim.status == "stopped"
        elif job.place[shard] == "leases" and job.is_live[shard]:
            assert claim.status == "busy"
        else:
            assert claim.status == "granted"
            job.forgotten.discard(shard)
            assert all(claim.attempt > attempt for _, attempt in job.attempts)
            job.tries[shard] = job.tries.get(shard, 0) + 1
            assert claim.tries == job.tries[shard]
            job.attempts.append((shard, claim.attempt))
            job.place[shard] = "leases"
            job.holder[shard] = claim.attempt
            job.is_live[shard] = lease_ms > 0
            job.state, job.has_started = JobState.RUNNING, True

    def attempt_of(self, number: int, which: int) -> tuple[ModelJob, int, int] | None:
        """Any attempt ever given out, stale ones included."""
        job = self.pick(number)
        if job is None or not job.attempts:
            return None
        shard, attempt = job.attempts[which % len(job.attempts)]
        return job, shard, attempt

    @rule(number=jobs, which=st.integers(0, 50), lease_ms=leases)
    def renew(self, number: int, which: int, lease_ms: int) -> None:
        if (found := self.attempt_of(number, which)) is None:
            return
        job, shard, attempt = found
        lost = self.table.renew(job.spec.job_id, [(shard, attempt)], lease_ms)
        if job.state.is_alive and shard in job.forgotten:  # by a wipe: who renews first has it
            job.forgotten.discard(shard)
            job.place[shard], job.holder[shard], job.tries[shard] = "leases", attempt, 1
            job.has_started = True
            if job.state is JobState.QUEUED:
                job.state = JobState.RUNNING
        if job.state.is_alive and job.holder.get(shard) == attempt:
            assert lost == []
            job.is_live[shard] = lease_ms > 0
        else:
            assert lost == [shard]

    @rule(number=jobs, which=st.integers(0, 50), failed=st.integers(0, 1))
    def commit(self, number: int, which: int, failed: int) -> None:
        if (found := self.attempt_of(number, which)) is None:
            return
        job, shard, attempt = found
        part = PartCounts(
            job.rows_of(shard), failed, 7 * shard, 5, shard, attempt, unparsed=shard % 2
        )
        answer = self.table.commit(ShardRef(job.spec.job_id, shard), attempt, part)
        if job.place[shard] == "landed":
            assert answer.status == "duplicate"
        elif job.state.is_alive and job.holder.get(shard) == attempt:
            assert answer.status == "committed"
            job.place[shard] = "landed"
            job.parts[shard] = part
            job.num_commits[shard] = job.num_commits.get(shard, 0) + 1
            del job.holder[shard]
            job.landed_since_resume.append(part)
            if not set(job.place) - job.at("landed"):
                job.state = JobState.LANDING
            else:
                job.judge()
        elif job.state.is_final:  # stopped: as long as anything is left, it was not completed
            assert answer.status == "late"
            job.place[shard] = "landed"
            job.parts[shard] = part
            job.num_commits[shard] = job.num_commits.get(shard, 0) + 1
        else:
            assert answer.status == "fenced"
        assert answer.left == job.spec.num_shards - len(job.at("landed"))

    @rule(number=jobs, which=st.integers(0, 50))
    def release(self, number: int, which: int) -> None:
        if (found := self.attempt_of(number, which)) is None:
            return
        job, shard, attempt = found
        is_held = job.holder.get(shard) == attempt
        assert self.table.release(ShardRef(job.spec.job_id, shard), attempt) == is_held
        if is_held:
            job.hand_back(shard)

    @rule(limit=st.integers(1, 10))
    def reap(self, limit: int) -> None:
        self.client.delete(self.table.keys.reaper)  # the grace after a silence has its own test
        expired = {
            ShardRef(job.spec.job_id, shard)
            for job in self.jobs
            for shard in job.at("leases")
            if job.state.is_alive and not job.is_live[shard]
        }
        reaped = self.table.reap(limit)
        assert len(reaped) == len(set(reaped)) == min(limit, len(expired))
        assert set(reaped) <= expired
        for ref in reaped:
            next(job for job in self.jobs if job.spec.job_id == ref.job_id).hand_back(ref.index)

    @rule(number=jobs, shard=shards, worker=st.sampled_from(WORKERS))
    def worker_dies(self, number: int, shard: int, worker: str) -> None:
        self.claim(number, shard, worker, lease_ms=0)
        self.reap(10)

    @rule(number=jobs, limit=st.integers(1, 10))
    def reissue_stale(self, number: int, limit: int) -> None:
        job = self.pick(number)
        if job is None:
            return
        queued = job.at("queued") if job.state.is_open else set()
        stale = self.table.reissue_stale(job.spec.job_id, 0, limit)
        assert set(stale) <= queued
        assert len(stale) == min(limit, len(queued))
        for shard in stale:
            job.place[shard] = "retry"

    @rule(number=jobs)
    def pause(self, number: int) -> None:
        if job := self.pick(number):
            control = replace(job.control(), pause_reason="user")
            assert self.table.settle(job.spec.job_id, control)
            if job.state.is_open:
                job.pause()

    @rule(number=jobs)
    def resume(self, number: int) -> None:
        if (job := self.pick(number)) and job.state is JobState.PAUSED:
            job.landed_since_resume.clear()
            assert self.table.settle(job.spec.job_id, replace(job.control(), pause_reason=None))
            job.state = JobState.RUNNING if job.has_started else JobState.QUEUED

    @rule(number=jobs)
    def settle_what_is_in_force(self, number: int) -> None:
        if job := self.pick(number):
            is_users = job.state is JobState.PAUSED and job.pause_reason == "user"
            control = replace(job.control(), pause_reason="user" if is_users else None)
            assert self.table.settle(job.spec.job_id, control)

    @rule(number=jobs, now=seldom)
    def cancel(self, number: int, now: bool) -> None:
        if now and (job := self.pick(number)):
            assert self.table.finish(job.spec.job_id, JobState.CANCELLED) == (
                not job.state.is_final
            )
            if not job.state.is_final:
                job.end(JobState.CANCELLED)

    @rule(number=jobs)
    def complete(self, number: int) -> None:
        job = self.pick(number)
        if job is not None and job.state is JobState.LANDING:
            assert self.table.finish(job.spec.job_id, JobState.COMPLETED)
            job.end(JobState.COMPLETED)

    @rule(now=seldom)
    def wipe_and_rebuild(self, now: bool) -> None:
        """Redis loses everything, and the disk brings it back: who held what is forgotten."""
        if not now:
            return
        self.teardown()
        for job in self.jobs:
            final = job.state if job.state.is_final else None
            control = job.control()
            assert self.table.rebuild(job.spec, job.parts, final, control=control) == len(job.parts)
            for shard in set(job.place) - job.at("landed"):
                job.place[shard] = "unissued"
                job.forgotten.add(shard)
            job.holder.clear()
            job.tries.clear()
            job.has_started = bool(job.parts)
            if job.state is JobState.RUNNING and not job.parts:
                job.state = JobState.QUEUED

    @rule(number=jobs)
    def rebuild_beside_the_living(self, number: int) -> None:
        if job := self.pick(number):
            assert self.table.rebuild(job.spec, job.parts, None) == 0

    @invariant()
    def no_shard_is_lost_or_in_two_places(self) -> None:
        for job in self.jobs:
            found = self.places_in_redis(job)
            if job.state.is_final:
                assert all(found[place] == set() for place in PLACES)
                assert found["landed"] == job.at("landed")
            else:
                assert {place: job.at(place) for place in found} == found
                assert sum(map(len, found.values())) == job.spec.num_shards

    @invariant()
    def the_snapshot_is_the_models(self) -> None:
        for job in self.jobs:
            snapshot = self.table.snapshot(job.spec.job_id)
            assert snapshot is not None
            assert snapshot.state is job.state
            running = 0 if job.state.is_final else sum(map(job.rows_of, job.at("leases")))
            done = sum(part.rows for part in job.parts.values())
            failed = sum(part.failed for part in job.parts.values())
            assert snapshot.counts == Counts(
                total=job.spec.num_rows,
                pending=0 if job.state.is_final else job.spec.num_rows - running - done,
                not_run=job.spec.num_rows - done if job.state.is_final else 0,
                running=running,
                succeeded=done - failed,
                failed=failed,
                unparsed=sum(part.unparsed for part in job.parts.values()),
            )
            assert snapshot.shards_landed == len(job.parts)
            assert snapshot.prompt_tokens == sum(p.prompt_tokens for p in job.parts.values())
            assert all(count == 1 for count in job.num_commits.values())
        still_open = {job.spec.job_id for job in self.jobs if not job.state.is_final}
        assert set(self.table.open_jobs()) == still_open

    @invariant()
    def the_agenda_misses_nobody(self) -> None:
        agenda = self.table.agenda
        hungry = {job_id for job_id, _ in agenda.hungry(0, 100)}
        unrenewed, stale = set(agenda.unrenewed(100)), set(agenda.stale(0, 100))
        assert set(agenda.landing(0, 100)) == {
            job.spec.job_id for job in self.jobs if job.state is JobState.LANDING
        }
        for job in self.jobs:
            job_id = job.spec.job_id
            wants_issue = bool(job.at("unissued") or job.at("retry"))
            assert (job_id in hungry) >= (wants_issue and job.state.is_open)
            assert (job_id in hungry) <= job.state.is_open
            if job.state.is_alive:
                has_expired = any(not job.is_live[shard] for shard in job.at("leases"))
                assert (job_id in unrenewed) >= has_expired
                assert (job_id in stale) >= bool(job.at("queued"))
            else:
                assert job_id not in stale or job.state is JobState.LANDING

    def places_in_redis(self, job: ModelJob) -> dict[str, set[int]]:
        key, job_id = self.table.keys.job, job.spec.job_id
        numbers = range(job.spec.num_shards)
        pipeline = self.client.pipeline(transaction=False)
        for place in PLACES:
            pipeline.zrange(key(job_id, place), 0, -1)
        for shard in numbers:
            pipeline.getbit(key(job_id, "landed"), shard)
        pipeline.hget(key(job_id), "cursor")
        *members, cursor = pipeline.execute()
        found = {place: {int(each) for each in members.pop(0)} for place in PLACES}
        found["landed"] = {shard for shard in numbers if members[shard]}
        elsewhere = set().union(*found.values())
        found["unissued"] = {shard for shard in numbers if shard >= int(cursor)} - elsewhere
        return found


def test_random_histories_agree_with_the_model(
    redis_client: redis.Redis, make_spec: SpecMaker
) -> None:
    class Machine(JobTableMachine):
        client = redis_client

    Machine.make_spec = staticmethod(make_spec)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes here
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
