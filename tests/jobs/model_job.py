"""A job as plain data: what the job table should say about it."""

from dataclasses import dataclass, field, replace

from penstock.jobs.control import Control
from penstock.jobs.model import JobSpec, JobState
from penstock.jobs.part_counts import PartCounts


@dataclass
class ModelJob:
    """What a job should be: a place for each shard, and who holds it."""

    spec: JobSpec
    state: JobState = JobState.QUEUED
    place: dict[int, str] = field(default_factory=dict)
    holder: dict[int, int] = field(default_factory=dict)  # shard -> attempt
    is_live: dict[int, bool] = field(default_factory=dict)  # shard -> whether its lease runs
    tries: dict[int, int] = field(default_factory=dict)
    parts: dict[int, PartCounts] = field(default_factory=dict)
    attempts: list[tuple[int, int]] = field(default_factory=list)  # every one ever given out
    num_commits: dict[int, int] = field(default_factory=dict)

    forgotten: set[int] = field(default_factory=set)  # shards that nobody claimed since a wipe
    has_started: bool = False
    landed_since_resume: list[PartCounts] = field(default_factory=list)
    pause_reason: str = "user"

    def __post_init__(self) -> None:
        self.place = dict.fromkeys(range(self.spec.num_shards), "unissued")

    def at(self, place: str) -> set[int]:
        return {shard for shard, where in self.place.items() if where == place}

    def rows_of(self, shard: int) -> int:
        return min(self.spec.shard_rows, self.spec.num_rows - shard * self.spec.shard_rows)

    def hand_back(self, shard: int) -> None:
        self.place[shard] = "retry"
        self.holder.pop(shard, None)

    def pause(self, reason: str = "user") -> None:
        self.state, self.pause_reason = JobState.PAUSED, reason
        for shard in self.at("queued"):
            self.place[shard] = "retry"

    def judge(self) -> None:
        """Pause when too many of the rows failed that landed since the job was last resumed."""
        rows = sum(part.rows for part in self.landed_since_resume)
        failed = sum(part.failed for part in self.landed_since_resume)
        rate = self.spec.max_error_rate
        is_judged = self.state.is_open and rows >= self.spec.error_rate_after
        if is_judged and rate is not None and failed > rows * rate:
            self.pause("error_rate")

    def control(self) -> Control:
        """What the disk says of it."""
        before = [part for part in self.parts.values() if part not in self.landed_since_resume]
        return replace(
            Control.of(self.spec),
            pause_reason=self.pause_reason if self.state is JobState.PAUSED else None,
            judged_from_rows=sum(part.rows for part in before),
            judged_from_failed=sum(part.failed for part in before),
        )

    def end(self, state: JobState) -> None:
        self.state = state
        self.holder.clear()
