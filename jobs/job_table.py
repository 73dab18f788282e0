"""The job table: who holds which shard, and what has landed. Atomic steps on Redis, nothing else.

It knows no file and no Celery. Everything here can be made again from the job directories; a few
bytes per shard are kept, never a prompt. Time is Redis' own. `scripts/` holds every step that
touches more than one key; `scripts/prelude.lua` draws how a shard moves between them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from .agenda import Agenda
from .control import Control
from .errors import UnknownJob
from .job_fields import control_fields, count_arguments, job_fields, judged_fields
from .keys import JOB_PARTS, Keys
from .lua_script import register
from .model import JobSnapshot, JobSpec, JobState, ShardRef
from .part_counts import PartCounts
from .snapshots import read_snapshot

ISSUE_SCAN_LIMIT = 1024  # shards that one `issue` looks at, so that it never blocks Redis for long
ABSORB_CHUNK = 512  # parts per call, for the same reason
REAP_GAP_MS = 3_000  # a reaper that looked away for longer lets workers renew before it judges
REAP_GRACE_MS = 5_000

_REAP_JOBS = 200  # looked at in one call of `reap`
_LISTED_AT_A_TIME = 200


@dataclass(frozen=True, slots=True)
class Claim:
    """Answer to `claim`. `attempt` fences every later step; `tries` counts claims of this shard.

    granted: compute it · landed: nothing to do · busy: somebody else does, drop the message ·
    stopped: the job takes no more work · unknown: no such shard.
    """

    status: Literal["granted", "landed", "busy", "stopped", "unknown"]
    attempt: int
    tries: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Answer to `commit`. `left` is how many shards of the job have not landed, -1 if unknown.

    committed: counted now, by this call only · duplicate: it had landed before · fenced: the
    attempt does not hold the shard any more · late: counted now, although the job was stopped
    before. `has_paused`: with this shard too many rows had failed (see `JobSpec.max_error_rate`).
    """

    status: Literal["committed", "duplicate", "fenced", "late"]
    left: int
    has_paused: bool = False


class JobTable:
    """Jobs, leases and counters in Redis. The client must be made with decode_responses=True."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        if not client.get_connection_kwargs().get("decode_responses"):
            raise ValueError("the job table needs a client made with decode_responses=True")
        self.redis = client
        self.keys = keys
        self._absorb = register(client, "absorb")
        self._amend = register(client, "amend")
        self._block = register(client, "block")
        self._claim = register(client, "claim")
        self._commit = register(client, "commit")
        self._create = register(client, "create")
        self._fail = register(client, "fail")
        self._finish = register(client, "finish")
        self._issue = register(client, "issue")
        self._note = register(client, "note")
        self._reap = register(client, "reap")
        self._reap_gate = register(client, "reap_gate")
        self._reissue_stale = register(client, "reissue_stale")
        self._release = register(client, "release")
        self._reopen = register(client, "reopen")
        self._renew = register(client, "renew")
        self._settle = register(client, "settle")
        self._snapshot = register(client, "snapshot")
        self._unblock = register(client, "unblock")
        due, queued = register(client, "due"), register(client, "queued")
        under_way = register(client, "under_way")
        self.agenda = Agenda(client, keys, due=due, queued=queued, under_way=under_way)

    # A job's life.

    def create(self, spec: JobSpec, control: Control | None = None) -> bool:
        """Enter a sealed job; its shards may be issued from now on. False if it was there."""
        return self._enter(spec, control or Control.of(spec), state=JobState.QUEUED)

    def rebuild(
        self,
        spec: JobSpec,
        landed: Mapping[int, PartCounts],
        final: JobState | None,
        *,
        started_at_ms: int | None = None,
        final_at_ms: int | None = None,
        error: str | None = None,
        control: Control | None = None,
    ) -> int:
        """Bring a job up to what the disk knows: enter it, count its parts, end it if it ended.

        Safe at any time, beside live workers too: what is counted already is not counted twice.
        A job that has ended is never open on the way. Returns how many parts were new to the table.
        """
        control = control or Control.of(spec)
        if final is not None:
            self._enter(spec, control, state=JobState.LANDING)
        elif control.pause_reason is not None:
            self._enter(spec, control, state=JobState.PAUSED)
        else:
            self.create(spec, control)
        starts = [part.started_at_ms for part in landed.values() if part.started_at_ms is not None]
        if started_at_ms is None:
            started_at_ms = min(starts, default=None)
        start: int | str = "" if started_at_ms is None else started_at_ms
        absorbed = 0
        shards = sorted(landed)
        for first in range(0, max(len(shards), 1), ABSORB_CHUNK):
            arguments: list[Any] = [start]
            for shard in shards[first : first + ABSORB_CHUNK]:
                arguments += [shard, *count_arguments(landed[shard])]
            absorbed += int(self._absorb(self._keys(spec.job_id), arguments))
        if final is not None:
            self.finish(spec.job_id, final, error, at_ms=final_at_ms)
        return absorbed

    def finish(
        self, job_id: str, state: JobState, error: str | None = None, *, at_ms: int | None = None
    ) -> bool:
        """End a job; its leases are void. False if it had ended before or is unknown.

        The caller has made the end durable on disk first (`ending.end`).
        """
        if not state.is_final:
            raise ValueError(f"a job can only finish in a final state, got {state.value!r}")
        arguments = [state.value, "" if at_ms is None else at_ms, error or ""]
        return bool(self._finish(self._keys(job_id), arguments))

    def forget(self, job: JobSnapshot) -> None:
        """Drop what is known of a job, so that it can be made anew from the disk."""
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(*(self.keys.job(job.job_id, part) for part in JOB_PARTS))
            pipeline.zrem(self.keys.jobs, job.job_id)
            pipeline.zrem(self.keys.jobs_of(job.tenant), job.job_id)
            pipeline.execute()

    def settle(self, job_id: str, control: Control) -> bool:
        """Put in force what the disk says of a job, its pause too. False if the job is unknown.

        Pausing, nothing more is issued; what is held goes on and lands. Shards that are queued are
        taken back at once: whoever finds their messages is turned away. A job that paused because
        of its errors goes on only if it was resumed since: of the rows before, it is not judged.
        """
        fields = control_fields(control)
        arguments = [fields["deadline_ms"], control.pause_reason or ""]
        arguments.append(control.judged_from_rows)
        fields |= judged_fields(control)
        arguments += [item for pair in fields.items() for item in pair]
        return bool(self._settle(self._keys(job_id), arguments))

    def note(self, job_id: str, trouble: str) -> None:
        """Say what holds a job up, as its snapshot's error, until a shard is committed again."""
        self._note(self._keys(job_id), [trouble])

    def block(self, job_id: str, trouble: str) -> bool:
        """Pause a job until there is room again where its rows land. False if it was not open.

        What is held goes on. A pause that somebody asks for meanwhile outlasts this one.
        """
        return bool(self._block(self._keys(job_id), [trouble]))

    def unblock(self, job_id: str) -> bool:
        """Let a job go on that waited for room. False if it did not, or pauses for more."""
        return bool(self._unblock(self._keys(job_id)))

    # A shard's life.

    def issue(self, job_id: str, limit: int) -> list[int]:
        """Choose up to `limit` shards to be queued; the caller publishes a message for each.

        May return fewer while more are left: ask again at the next tick.
        """
        shards = self._issue(self._keys(job_id), [limit, ISSUE_SCAN_LIMIT])
        return [int(shard) for shard in shards]

    def claim(self, ref: ShardRef, worker: str, lease_ms: int) -> Claim:
        """Lease a shard to a worker, under a fresh attempt number."""
        arguments = [ref.index, worker, int(lease_ms)]
        status, attempt, tries = self._claim(self._keys(ref.job_id), arguments)
        return Claim(status, int(attempt), int(tries))

    def renew(self, job_id: str, held: Sequence[tuple[int, int]], lease_ms: int) -> list[int]:
        """Prolong the leases of (shard, attempt) pairs; returns the shards that are lost.

        A lost shard is somebody else's, or its job has ended: stop computing it. When Redis was
        wiped none is lost thereby: who renews first has it again.
        """
        if not held:
            return []
        arguments = [int(lease_ms), *(number for pair in held for number in pair)]
        return [int(shard) for shard in self._renew(self._keys(job_id), arguments)]

    def commit(self, ref: ShardRef, attempt: int, counts: PartCounts) -> Commit:
        """Count a shard whose part is linked. Safe to repeat when the answer got lost.

        The commit that leaves nothing moves the job to `landing`.
        """
        arguments = [ref.index, attempt, *count_arguments(counts)]
        status, left, has_paused = self._commit(self._keys(ref.job_id), arguments)
        return Commit(status, int(left), bool(int(has_paused)))

    def release(self, ref: ShardRef, attempt: int) -> bool:
        """Hand a shard back, to be issued again at once. False if it was not held any more."""
        return bool(self._release(self._keys(ref.job_id), [ref.index, attempt]))

    def count_failure(self, ref: ShardRef, attempt: int) -> int:
        """Count that a shard failed as a whole, once for each attempt; returns how often it has.

        0 if the attempt does not hold it any more.
        """
        return int(self._fail(self._keys(ref.job_id), [ref.index, attempt]))

    def reap(self, limit: int) -> list[ShardRef]:
        """Hand back the shards of workers that fell silent, over all open jobs.

        Run it every second or so, by whoever leads. After a gap in which nobody looked, it waits
        once for `REAP_GRACE_MS`: then workers could not renew either.
        """
        gate = self._reap_gate([self.keys.reaper], [REAP_GAP_MS, REAP_GRACE_MS])
        if not int(gate):
            return []
        reaped: list[ShardRef] = []
        for job_id in self.agenda.unrenewed(_REAP_JOBS):
            if len(reaped) >= limit:
                break
            shards = self._reap(self._keys(job_id), [limit - len(reaped)])
            reaped += [ShardRef(job_id, int(shard)) for shard in shards]
        return reaped

    def reissue_stale(self, job_id: str, older_than_ms: int, limit: int) -> list[int]:
        """Hand back shards whose message was lost: queued for longer than that, never claimed."""
        shards = self._reissue_stale(self._keys(job_id), [int(older_than_ms), limit])
        return [int(shard) for shard in shards]

    def reopen(self, job_id: str, shards: Sequence[int], staying: PartCounts) -> bool:
        """Take landed shards back whose parts are damaged; they run again.

        `staying` adds up all the others. False if the job was not about to be completed.
        """
        sums, is_reopened = count_arguments(staying), False
        for first in range(0, len(shards), ABSORB_CHUNK):
            end = first + ABSORB_CHUNK
            arguments = [*sums, int(end >= len(shards)), *shards[first:end]]
            is_reopened = bool(self._reopen(self._keys(job_id), arguments))
        return is_reopened

    def amend(
        self, job_id: str, state: JobState, totals: PartCounts, landed: Sequence[int], *, at_ms: int
    ) -> None:
        """Bring a job that had ended to a better end: what all its parts add up to now.

        `landed` names all shards that have a part.
        """
        settled = [state.value, at_ms, len(landed), *count_arguments(totals)]
        for first in range(0, max(len(landed), 1), ABSORB_CHUNK):
            shards = landed[first : first + ABSORB_CHUNK]
            self._amend(self._keys(job_id), [*settled, *shards])

    # Reading.

    def snapshot(self, job_id: str) -> JobSnapshot | None:
        """Read one job, in one piece; None if it is unknown."""
        return read_snapshot(job_id, self._snapshot(self._keys(job_id)))

    def snapshots(self, job_ids: Sequence[str]) -> "list[JobSnapshot | None]":
        """Read several jobs in one round trip, each in one piece."""
        pipeline = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            self._snapshot(self._keys(job_id), client=pipeline)
        answers = zip(job_ids, pipeline.execute(), strict=True)
        return [read_snapshot(job_id, answer) for job_id, answer in answers]

    def window(self, job_id: str) -> int:
        """Count the shards of a job that are queued and not yet claimed."""
        return int(self.redis.zcard(self.keys.job(job_id, "queued")))

    def now_ms(self) -> int:
        """Read the one clock that counts."""
        seconds, microseconds = self.redis.time()  # pyright: ignore[reportGeneralTypeIssues]
        return seconds * 1000 + microseconds // 1000

    def open_jobs(self) -> list[str]:
        """Name the jobs that have not ended, oldest first. There may be many: see `agenda`."""
        return sorted(set(self.redis.sscan_iter(self.keys.open, count=500)))

    def unlisted(self, job_ids: Sequence[str]) -> "list[str]":
        """Pick the jobs that the table has never heard of."""
        unlisted: list[str] = []
        for first in range(0, len(job_ids), ABSORB_CHUNK):
            chunk = job_ids[first : first + ABSORB_CHUNK]
            scores: Any = self.redis.zmscore(self.keys.jobs, list(chunk))
            unlisted += [job for job, score in zip(chunk, scores, strict=True) if score is None]
        return unlisted

    def landed(self, job_id: str, shards: Iterable[int]) -> list[bool]:
        """Tell for each of these shards whether it is committed."""
        pipeline = self.redis.pipeline(transaction=False)
        for shard in shards:
            pipeline.getbit(self.keys.job(job_id, "landed"), shard)
        return [bool(bit) for bit in pipeline.execute()]

    def index(self, job: JobSnapshot) -> None:
        """List a known job under its tenant, as tables of older versions did not."""
        self.redis.zadd(self.keys.jobs_of(job.tenant), {job.job_id: job.created_at_ms})

    def list(
        self,
        after: str | None = None,
        limit: int = 20,
        *,
        tenant: str | None = None,
        states: Collection[JobState] | None = None,
        is_listed: Callable[[str], bool] = lambda _: True,
    ) -> list[JobSnapshot]:
        """Read jobs, all or a tenant's, newest first, beginning behind the job `after`.

        Those in other states, or whose ids are not to be listed, are passed over.

        Raises:
            UnknownJob: `after` is the id of none of them.
        """
        start, index = 0, self.keys.jobs if tenant is None else self.keys.jobs_of(tenant)
        if after is not None:
            rank: Any = self.redis.zrevrank(index, after)
            if rank is None:
                raise UnknownJob(after)
            start = rank + 1
        is_ended_wanted = states is None or any(state.is_final for state in states)
        still_open = None if is_ended_wanted else set(self.open_jobs())  # spares a look at others
        found: list[JobSnapshot] = []
        while len(found) < limit:
            page: Any = self.redis.zrevrange(
                index, start, start + max(limit, _LISTED_AT_A_TIME) - 1
            )
            if not page:
                break
            start += len(page)
            names = [
                job_id
                for job_id in page
                if (still_open is None or job_id in still_open) and is_listed(job_id)
            ]
            wanted = names[: limit - len(found)] if states is None else names
            found += [
                job
                for job in self.snapshots(wanted)
                if job is not None and (states is None or job.state in states)
            ]
        return found[:limit]

    def _enter(self, spec: JobSpec, control: Control, state: JobState) -> bool:
        fields = job_fields(spec, control, state)
        arguments = [spec.created_at_ms, int(state.is_alive), fields["deadline_ms"]]
        arguments += [item for pair in fields.items() for item in pair]
        keys = [*self._keys(spec.job_id), self.keys.jobs_of(spec.tenant)]
        return bool(self._create(keys, arguments))

    def _keys(self, job_id: str) -> "list[str]":
        return self.keys.of_job(job_id)
