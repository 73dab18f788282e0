"""What an outsider sees of one job: rows accepted, statuses told, rows found in the files.

Kept beside the system and never asked of it. The rules are those every job must keep:

    I1  every accepted row ends exactly once            lost
    I2  one row in the files per accepted row           duplicated
    I3  only rows that are at fault fail                innocent
    I4  every answer is the prompt's own                wrong
    I7  statuses add up, only grow, and never promise   violations
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from penstock.jobs.fake_engine import expected_text

CRASH = "[[crash]]"
ENDED = ("completed", "completed_with_errors", "failed", "cancelled", "expired")
_RANKS = {"queued": 0, "validating": 0, "running": 1, "paused": 1, "landing": 2} | dict.fromkeys(
    ENDED, 3
)
NOT_ADDED = ("total", "rejected", "unparsed")  # the other counts add up to the total


@dataclass(frozen=True, slots=True)
class Order:
    """A job as it was handed in: its prompts are a function of seed and row."""

    rows: int
    seed: int
    tokens: int  # of every answer
    poisoned: frozenset[int] = frozenset()  # rows that kill the engine

    def prompt(self, index: int) -> str:
        """Return what row `index` asks."""
        poison = f" {CRASH}" if index in self.poisoned else ""
        return f"row {index} of seed {self.seed}{poison}"


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a job's status."""

    at_s: float
    status: str
    counts: dict[str, int]

    @property
    def done(self) -> int:
        """Rows that are told to have ended."""
        return self.counts["succeeded"] + self.counts["failed"]


@dataclass(slots=True)
class Ledger:
    """Everything seen of one job. `look` is given each answer; `verdict` opens the files.

    Attributes:
        may_forget: the fault rolls Redis back, so counts may fall until they are restored. A
            promise of completion must hold all the same.
    """

    job_id: str
    order: Order
    home: Path  # of its results
    may_forget: bool = False
    sights: list[Sight] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    num_unanswered: int = 0

    @property
    def last(self) -> Sight | None:
        """The latest look."""
        return self.sights[-1] if self.sights else None

    @property
    def done(self) -> int:
        """Rows that are told to have ended."""
        return self.last.done if self.last else 0

    @property
    def has_ended(self) -> bool:
        """Whether the job was told to have ended."""
        return self.last is not None and self.last.status in ENDED

    def look(self, job: dict[str, Any]) -> None:
        """Take one answer about the job."""
        sight = Sight(time.monotonic(), job["status"], job["counts"])
        total = sum(count for name, count in sight.counts.items() if name not in NOT_ADDED)
        if total != self.order.rows or min(sight.counts.values()) < 0:
            self._blame(f"I7 counts of {self.order.rows} rows do not add up: {sight.counts}")
        before = self.last
        if before is not None and not self.may_forget:
            if sight.done < before.done:
                self._blame(f"I7 rows that had ended fell from {before.done} to {sight.done}")
            if _RANKS[sight.status] < _RANKS[before.status]:
                self._blame(f"I7 the status went back from {before.status} to {sight.status}")
        if sight.status.startswith("completed") and not self.has_ended:
            self._check_promise()
        self.sights.append(sight)

    def miss(self, status_code: int | None) -> None:
        """Take that there was no answer, or another than the job."""
        self.num_unanswered += 1
        if status_code == 404:  # also while the table is being restored: the disk knows it
            self._blame("I7 an accepted job is unknown")

    def _check_promise(self) -> None:
        """A job that says it is complete is so, at that very moment."""
        if not (self.home / "_SUCCESS").exists():
            self._blame("I7 completed before _SUCCESS")
        rows = sum(pq.read_metadata(part).num_rows for part in self.parts())
        if rows != self.order.rows:
            self._blame(f"I7 completed with {rows} of {self.order.rows} rows on disk")

    def parts(self) -> list[Path]:
        """Name the files that a reader of the dataset finds."""
        return sorted((self.home / "rows").glob("*.parquet"))

    def verdict(self) -> "Verdict":
        """Open the files and count."""
        columns = ["row_index", "sample_index", "text", "output", "status", "error"]
        times: Counter[int] = Counter()
        failed: set[int] = set()
        wrong = 0
        for part in self.parts():
            for row in pq.ParquetFile(part).read(columns=columns).to_pylist():
                index, prompt = row["row_index"], self.order.prompt(row["row_index"])
                times[index] += 1
                if row["status"] == "failed":
                    failed.add(index)
                elif row["text"] != prompt or row["output"] != expected_text(
                    prompt, num_tokens=self.order.tokens
                ):
                    wrong += 1
        accepted = range(self.order.rows)
        strange = sum(index not in accepted for index in times)
        spared = self.order.poisoned - failed
        if spared:
            self._blame(f"I3 rows that kill the engine did not fail: {sorted(spared)[:5]}")
        if strange:
            self._blame(f"I2 {strange} rows were never accepted")
        told = (self.last.counts["succeeded"], self.last.counts["failed"]) if self.last else (0, 0)
        found = (len(times) - len(failed), len(failed))
        if told != found:
            self._blame(f"I7 told {told} rows succeeded and failed, on disk there are {found}")
        return Verdict(
            acked=self.order.rows,
            terminal=len(times),
            lost=sum(index not in times for index in accepted),
            duplicated=sum(count - 1 for count in times.values()) + strange,
            innocent=len(failed - self.order.poisoned),
            wrong=wrong,
            violations=tuple(self.violations),
        )

    def _blame(self, violation: str) -> None:
        if violation not in self.violations:
            self.violations.append(violation)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the files say of one job."""

    acked: int
    terminal: int
    lost: int
    duplicated: int
    innocent: int
    wrong: int
    violations: tuple[str, ...]
