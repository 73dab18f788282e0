"""How a job went, moment by moment, told by the rows that have landed. Knows parts and no table.

When each row ended, and what it took, stands in its part, so a history outlives every process that
watched. A few columns of a part are read, once; of a job with very many parts a part in two, in
four, … is read, and stands for its neighbours.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.compute import TDigestOptions, call_function

from .landing import num_shard_rows
from .model import JobSpec, RowStatus
from .results_dir import ResultsDir

MAX_PARTS = 400  # read for one timeline
MAX_MOMENTS = 240
MAX_SAMPLES = 1_000_000  # of the rows of the parts read for one timeline; some 50 MB
_KEPT_PARTS = 2_000  # of all jobs; most have a few kilobytes, and all together
KEPT_BYTES = 64 << 20
_STEPS_MS = (
    *(100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000),
    *(minutes * 60_000 for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440)),
)
_COLUMNS = ["sample_index", "status", "completion_tokens", "worker", "finished_at", "latency_ms"]
_QUANTILES = TDigestOptions(q=[0.5, 0.95])


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a timeline: what ended from `at_ms` on, for `step_ms`.

    Of a job that was sampled, rows and tokens are what the sample makes probable.
    """

    at_ms: int
    step_ms: int
    rows: float = 0.0
    failed: float = 0.0
    completion_tokens: float = 0.0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None

    @property
    def rows_per_s(self) -> float:
        """The speed in rows."""
        return self.rows * 1000 / self.step_ms

    @property
    def tokens_per_s(self) -> float:
        """The speed in tokens that were generated."""
        return self.completion_tokens * 1000 / self.step_ms


@dataclass(frozen=True, slots=True)
class Timeline:
    """How a job went, without gaps: where nothing ended, there is a moment that says so.

    `workers` counts the rows that were read by who made them. What was not read (part of
    `parts_landed`, or damaged) is told for by the rest.
    """

    step_ms: int
    moments: Sequence[Moment] = ()
    workers: Mapping[str, int] = field(default_factory=dict)
    parts_read: int = 0
    parts_landed: int = 0
    rows_read: int = 0
    rows_landed: int = 0


class Timelines:
    """Makes timelines; remembers what it has read. For threads."""

    def __init__(self, max_parts: int = MAX_PARTS, *, kept_bytes: int = KEPT_BYTES) -> None:
        self._max_parts = max_parts
        self._kept_bytes = kept_bytes
        self._parts: OrderedDict[tuple[str, int, int], pa.Table] = OrderedDict()
        self._num_bytes = 0  # of these
        self._lock = threading.Lock()

    def of(self, spec: JobSpec, num_moments: int = 60) -> Timeline:
        """Tell how a job has gone so far, in about so many moments, and no more."""
        landed = ResultsDir.of(spec).parts()
        chosen = every_nth(list(landed), min(self._max_parts, _num_parts_of(MAX_SAMPLES, spec)))
        read = {index: part for index in chosen if (part := self._read(landed[index])) is not None}
        rows_landed = sum(num_shard_rows(spec, index) for index in landed)
        rows_read = sum(num_shard_rows(spec, index) for index in read)
        if not read:
            return Timeline(_STEPS_MS[0], parts_landed=len(landed), rows_landed=rows_landed)
        rows = pa.concat_tables(read.values())
        step_ms, moments = _moments(rows, num_moments, scale=rows_landed / rows_read)
        workers = rows.group_by("worker").aggregate([("sample_index", "count")]).to_pylist()
        return Timeline(
            step_ms=step_ms,
            moments=moments,
            workers=Counter(
                {each["worker"]: each["sample_index_count"] for each in workers if each["worker"]}
            ),
            parts_read=len(read),
            parts_landed=len(landed),
            rows_read=rows_read,
            rows_landed=rows_landed,
        )

    def _read(self, path: Path) -> pa.Table | None:
        """Read what a part says about time, unless that was done; None if it cannot be read."""
        try:
            state = path.stat()
            key = str(path), state.st_mtime_ns, state.st_ino  # a retry puts another in its place
            with self._lock:
                if key in self._parts:
                    self._parts.move_to_end(key)
                    return self._parts[key]
            part = pq.ParquetFile(path, page_checksum_verification=True).read(_COLUMNS)
        except (OSError, pa.ArrowException):  # the reconciler will find it; here it is one of many
            return None
        with self._lock:
            self._keep(key, part)
        return part

    def _keep(self, key: tuple[str, int, int], part: pa.Table) -> None:
        """Remember a part, and forget those that nobody has asked for the longest."""
        if key in self._parts:  # two have read it at the same time
            return
        self._parts[key] = part
        self._num_bytes += part.nbytes
        while self._num_bytes > self._kept_bytes or len(self._parts) > _KEPT_PARTS:
            self._num_bytes -= self._parts.popitem(last=False)[1].nbytes


def every_nth(landed: Sequence[int], at_most: int) -> list[int]:
    """Choose shards, evenly: every one, every second, every fourth …

    So a longer job is told by parts that have been read for a shorter one already.
    """
    nth = 1
    chosen = list(landed)
    while len(chosen) > at_most:
        nth *= 2
        chosen = [index for index in chosen if index % nth == 0] or chosen[:at_most]
    return chosen


def _num_parts_of(num_samples: int, spec: JobSpec) -> int:
    """Tell in how many parts of a job there are about so many samples; one at least."""
    return max(1, num_samples // (spec.shard_rows * int(spec.task.sampling.get("n") or 1)))


def _moments(rows: pa.Table, num_moments: int, *, scale: float) -> tuple[int, list[Moment]]:
    """Sort rows into steps of time by when they ended; rows that never ran have no time."""
    rows = rows.filter(call_function("is_valid", [rows["finished_at"]]))
    if not rows.num_rows:
        return _STEPS_MS[0], []
    ended_ms = call_function("divide", [rows["finished_at"].cast(pa.int64()), 1_000])
    latency_ms = rows["latency_ms"].fill_null(0)
    start_ms = call_function("min", [call_function("subtract", [ended_ms, latency_ms])]).as_py()
    end_ms = call_function("max", [ended_ms]).as_py() + 1
    step_ms = _step_ms(end_ms - start_ms, num_moments)
    elapsed_ms = call_function("subtract", [ended_ms, start_ms])
    # Of several samples, the first stands for the row.
    is_row = call_function("equal", [rows["sample_index"], 0])
    is_failed = call_function("equal", [rows["status"], RowStatus.FAILED.value])
    has_failed = call_function("and", [is_row, is_failed])
    columns = {
        "place": call_function("divide", [elapsed_ms, step_ms]),
        "rows": is_row.cast(pa.int32()),
        "failed": has_failed.cast(pa.int32()),
        "tokens": rows["completion_tokens"].cast(pa.int64()),
        "latency": rows["latency_ms"],
    }
    sums = [("rows", "sum"), ("failed", "sum"), ("tokens", "sum")]
    groups = pa.table(columns).group_by("place")
    found = {
        group["place"]: group
        for group in groups.aggregate([*sums, ("latency", "tdigest", _QUANTILES)]).to_pylist()
    }
    nothing = {"rows_sum": 0, "failed_sum": 0, "tokens_sum": 0, "latency_tdigest": (None, None)}
    moments = []
    for place in range(max(found) + 1):
        at_ms = start_ms + place * step_ms
        group = found.get(place, nothing)
        p50_ms, p95_ms = group["latency_tdigest"]
        moments.append(
            Moment(
                at_ms=at_ms,
                step_ms=step_ms,
                rows=group["rows_sum"] * scale,
                failed=group["failed_sum"] * scale,
                completion_tokens=group["tokens_sum"] * scale,
                latency_p50_ms=p50_ms,
                latency_p95_ms=p95_ms,
            )
        )
    return step_ms, moments


def _step_ms(span_ms: int, num_moments: int) -> int:
    """Choose the shortest round step that needs no more moments than that."""
    fitting = (step for step in _STEPS_MS if span_ms <= step * num_moments)
    whole_days = -(-span_ms // (num_moments * _STEPS_MS[-1]))
    return next(fitting, whole_days * _STEPS_MS[-1])
