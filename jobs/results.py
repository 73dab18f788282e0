"""Reads landed rows page by page, also while the job runs. Knows committed parts only.

Rows come in the order of the input. A page stops before the first shard that has not landed yet,
so a cursor never skips a row that lands later: ask again from where it stopped. Reading in the
order of completion is not offered.
"""

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .errors import UnknownJob
from .job_table import JobTable
from .model import JobSpec, JobState, RowStatus
from .part_file import part_counts, read_part
from .results_dir import ResultsDir
from .row_schema import row_schema

_CURSOR = re.compile(r"s(\d{1,9})r(\d{1,9})")
_LOOK_AHEAD = 64  # shards asked about at a time
_MAX_PARTS = 256  # read for one page: rows of one status may be rare


class InvalidCursor(ValueError):
    """A cursor is not one that a page of this job gave out."""

    param = "after"


@dataclass(frozen=True, slots=True)
class Page:
    """A run of rows. No rows, and no cursor but the one asked for, means: nothing more now.

    `next_cursor` is None when nothing will ever follow. `complete` says that no row behind this
    page is still on its way.
    """

    table: pa.Table
    next_cursor: str | None
    complete: bool

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts, made anew each time."""
        return self.table.to_pylist()

    @property
    def incomplete(self) -> bool:
        """Whether rows behind this page are still on their way."""
        return not self.complete


def read_results(
    table: JobTable,
    spec: JobSpec,
    after: str | None,
    limit: int,
    status: RowStatus | None = None,
) -> Page:
    """Read up to `limit` rows behind the cursor `after`, of one status if that is asked for.

    Raises:
        InvalidCursor: `after` is no cursor of this job.
        UnknownJob: the job table does not know the job.
        CorruptPart: a landed part is gone, or its bytes have changed.
    """
    shard, offset = _place(spec, after)
    snapshot = table.snapshot(spec.job_id)
    if snapshot is None:
        raise UnknownJob(spec.job_id)
    complete = snapshot.state.is_final or snapshot.state is JobState.LANDING
    if status is RowStatus.FAILED and snapshot.counts.failed == 0:
        return Page(_joined(spec, []), None if complete else f"s{shard}r{offset}", complete)
    pieces: list[pa.Table] = []
    left = limit
    landed: dict[int, bool] = {}
    num_read = 0
    while shard < spec.num_shards and left > 0 and num_read < _MAX_PARTS:
        if shard not in landed:
            ahead = range(shard, min(shard + _LOOK_AHEAD, spec.num_shards))
            landed = dict(zip(ahead, table.landed(spec.job_id, ahead), strict=True))
        if not landed[shard] and not complete:
            break
        part = _read_part(spec, shard, status) if landed[shard] else None
        num_read += landed[shard]
        if part is not None:
            places = _places(part, offset, status)
            is_whole = len(places) == part.num_rows <= left
            pieces.append(part if is_whole else part.take(places[:left]))
            if len(places) > left:
                cursor = f"s{shard}r{places[left]}"
                return Page(_joined(spec, pieces), cursor, complete)
            left -= len(places)
        shard, offset = shard + 1, 0
    is_over = complete and shard == spec.num_shards
    return Page(_joined(spec, pieces), None if is_over else f"s{shard}r{offset}", complete)


def _places(part: pa.Table, offset: int, status: RowStatus | None) -> list[int]:
    """Name the rows of a part from `offset` on that have the status."""
    places = range(offset, part.num_rows)
    if status is None:
        return list(places)
    found = part.column("status").to_pylist()
    return [place for place in places if found[place] == status]


def _joined(spec: JobSpec, pieces: list[pa.Table]) -> pa.Table:
    return (
        pa.concat_tables(pieces, promote_options="default")
        if pieces
        else row_schema(spec).empty_table()
    )


def _place(spec: JobSpec, cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) > spec.num_shards:
        raise InvalidCursor(f"{cursor[:40]!r} is not a cursor of {spec.job_id}")
    return int(match[1]), int(match[2])


def _read_part(spec: JobSpec, shard: int, status: RowStatus | None) -> pa.Table | None:
    path = ResultsDir.of(spec).part(shard)
    if status is RowStatus.FAILED and part_counts(path).failed == 0:
        return None  # most parts, most of the time: their rows need not be read
    return read_part(path)
