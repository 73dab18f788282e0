"""What the engines computed, by the journal they keep: rows begun again, or begun too late."""

from collections import Counter
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What was computed in vain: rows begun again, and of these the ones that had landed (I10)."""

    rows: int
    redone: int


def recomputed(journal: Path, offset: int, homes: dict[str, Path]) -> Recomputed:
    """Count for some jobs, by the place of their results, what stands behind `offset`."""
    begun = [each for each in _read(journal, offset) if each.job_id in homes]
    times = Counter((each.job_id, each.row) for each in begun)
    return Recomputed(
        rows=sum(count - 1 for count in times.values()), redone=_num_late(begun, homes)
    )


def _num_late(begun: Sequence[Begun], homes: dict[str, Path]) -> int:
    landed_ns: dict[tuple[str, int], int | None] = {}
    num_late = 0
    for each in begun:
        key = (each.job_id, each.shard)
        if key not in landed_ns:
            part = homes[each.job_id] / "rows" / f"part-{each.shard:06}.parquet"
            landed_ns[key] = part.stat().st_ctime_ns if part.exists() else None
        at_ns = landed_ns[key]
        num_late += at_ns is not None and each.at_ns > at_ns + LATE_S * 1e9
    return num_late


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
