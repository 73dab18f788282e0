"""What the engines computed, by the journal they keep, beside the parts that came of it.

Rows begun again were computed in vain; rows begun after their part stood should never be (I10).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LATE_S = 5.0  # after its part stands, by when nobody may begin a row any more


@dataclass(frozen=True, slots=True)
class Begun:
    """One row that an engine began."""

    at_ns: int
    job_id: str
    shard: int
    row: int


class Work:
    """What was begun for some jobs since a place in the journal."""

    def __init__(self, journal: Path, offset: int, homes: dict[str, Path]) -> None:
        self._homes = homes
        self._begun = [each for each in _read(journal, offset) if each.job_id in homes]
        self._landed_ns: dict[tuple[str, int], int | None] = {}

    def num_again(self) -> int:
        """Count the rows begun more than once, each time but the first."""
        times = Counter((each.job_id, each.row) for each in self._begun)
        return sum(count - 1 for count in times.values())

    def num_late(self) -> int:
        """Count the rows begun although their part had stood for a while."""
        return sum(
            landed_ns is not None and each.at_ns > landed_ns + LATE_S * 1e9
            for each in self._begun
            for landed_ns in [self._when_landed(each)]
        )

    def held_s(self, struck_ns: int) -> float | None:
        """Say how long what was in flight at a moment took to land; None if nothing was."""
        landed = [
            landed_ns
            for each in self._begun
            if each.at_ns <= struck_ns
            and (landed_ns := self._when_landed(each)) is not None
            and landed_ns > struck_ns
        ]
        return (max(landed) - struck_ns) / 1e9 if landed else None

    def _when_landed(self, row: Begun) -> int | None:
        key = (row.job_id, row.shard)
        if key not in self._landed_ns:
            part = self._homes[row.job_id] / "rows" / f"part-{row.shard:06}.parquet"
            self._landed_ns[key] = part.stat().st_mtime_ns if part.exists() else None
        return self._landed_ns[key]


def _read(journal: Path, offset: int) -> Iterator[Begun]:
    if not journal.exists():
        return
    with journal.open(encoding="utf-8") as lines:
        lines.seek(offset)
        for line in lines:
            at_ns, what, request_id, _ = line.split()
            if what == "begin" and request_id.count("/") == 2:  # else nobody's row: a chat
                job_id, run, row = request_id.split("/")
                yield Begun(int(at_ns), job_id, int(run.partition(".")[0]), int(row))
