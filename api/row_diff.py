"""Two jobs, or two runs, row by row: what differs, and how much. Knows rows, no server.

Reads both sides once and keeps counts only, so that ten million rows are no more than ten.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from .client_errors import InvalidInput
from .latency_sketch import LatencySketch
from .row_metrics import Metric, likeness
from .row_pairs import Pair, Row, pairs_by_key, pairs_in_order

_FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that is not the same on both sides; None is a side that lacks it.

    `likeness` is that of the least alike column.
    """

    kind: Literal["changed", "only_in_a", "only_in_b"]
    key: str
    a: Row | None
    b: Row | None
    likeness: float = 0.0


@dataclass(slots=True)
class SideTotals:
    """What the rows of one side add up to."""

    rows: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latencies: LatencySketch = field(default_factory=LatencySketch)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.rows += 1
        self.failed += code_of(row) is not None
        self.prompt_tokens += row.get("prompt_tokens") or 0
        self.completion_tokens += row.get("completion_tokens") or 0
        if row.get("latency_ms") is not None:
            self.latencies.add(row["latency_ms"])

    def latency_ms(self, share: float) -> float | None:
        """Give the time that so large a share of the rows did not exceed."""
        return self.latencies.quantile(share)

    def to_json(self) -> dict[str, Any]:
        """Give it as an object."""
        return {
            "rows": self.rows,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "latency_ms": {
                "p50": self.latency_ms(0.5),
                "p95": self.latency_ms(0.95),
            },
        }


class RowDiff:
    """Walks the rows of two sides; iterate it to its end, then its counts are complete.

    `faults` are what failed on both sides where the rows themselves do not tell.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        key_of: Callable[[Row], str],
        *,
        columns: Sequence[str] | None = None,
        metric: Metric = Metric.EXACT,
        at_least: float = 1.0,
        faults: Iterable[Pair] = (),
    ) -> None:
        self._pairs = pairs
        self._faults = faults
        self._key_of = key_of
        self.columns = columns
        self._metric = metric
        self._at_least = at_least
        self.a, self.b = SideTotals(), SideTotals()
        self.same = self.changed = self.only_in_a = self.only_in_b = 0
        self._likeness = 0.0
        self.errors_gone: Counter[str] = Counter()
        self.errors_new: Counter[str] = Counter()
        self.errors_in_both: Counter[str] = Counter()

    @classmethod
    def in_order(cls, a: Iterable[Row], b: Iterable[Row], **options: Any) -> "RowDiff":
        """Compare rows that stand at the same place of the input."""
        return cls(pairs_in_order(a, b), partial(_key, "row_index"), **options)

    @classmethod
    def by_column(
        cls, a: Iterable[Row], b: Iterable[Row], column: str, **options: Any
    ) -> "RowDiff":
        """Compare rows that have the same value in a column, wherever they stand."""
        key_of = partial(_key, column)
        return cls(pairs_by_key(a, b, key_of), key_of, **options)

    @property
    def is_same(self) -> bool:
        """Whether no row differs."""
        return not (self.changed or self.only_in_a or self.only_in_b)

    def __iter__(self) -> Iterator[RowChange]:
        """Yield the rows that differ."""
        for a, b in self._pairs:
            change = self._compare(a, b)
            if change is not None:
                yield change
        for a, b in self._faults:
            for side, fault in ((self.a, a), (self.b, b)):
                side.failed += fault is not None
            self._count_errors(*(None if each is None else each["code"] for each in (a, b)))

    def to_json(self) -> dict[str, Any]:
        """Give all counts as an object."""
        num_pairs = self.same + self.changed
        return {
            "rows": {
                "same": self.same,
                "changed": self.changed,
                "only_in_a": self.only_in_a,
                "only_in_b": self.only_in_b,
            },
            "same_rate": round(self.same / num_pairs, 6) if num_pairs else None,
            "likeness": round(self._likeness / num_pairs, 6) if num_pairs else None,
            "errors": {
                "gone": dict(self.errors_gone),
                "new": dict(self.errors_new),
                "in_both": dict(self.errors_in_both),
            },
            "a": self.a.to_json(),
            "b": self.b.to_json(),
        }

    def _compare(self, a: Row | None, b: Row | None) -> RowChange | None:
        """Count a pair; a row that is the same on both sides is not worth a word."""
        for side, row in ((self.a, a), (self.b, b)):
            if row is not None:
                self._check(row, side.rows)
                side.add(row)
        before, after = (None if row is None else code_of(row) for row in (a, b))
        self._count_errors(before, after)
        if a is None or b is None:
            self.only_in_a += b is None
            self.only_in_b += a is None
            there = a or b or {}
            return RowChange("only_in_a" if b is None else "only_in_b", self._key_of(there), a, b)
        alike = self._alike(a, b) if before == after else 0.0
        self._likeness += alike
        if alike >= self._at_least:
            self.same += 1
            return None
        self.changed += 1
        return RowChange("changed", self._key_of(a), a, b, round(alike, 6))

    def _count_errors(self, before: str | None, after: str | None) -> None:
        if before is not None and before == after:
            self.errors_in_both[before] += 1
        else:
            self.errors_gone.update([before] if before is not None else [])
            self.errors_new.update([after] if after is not None else [])

    def _check(self, row: Row, num_before: int) -> None:
        """See whether the first row of a side has what is to be compared."""
        unknown = [] if num_before else [name for name in self.columns or () if name not in row]
        if unknown:
            raise InvalidInput(f"rows have no column {unknown[0]!r}; they have {', '.join(row)}")

    def _alike(self, a: Row, b: Row) -> float:
        if code_of(a) is not None:
            return 1.0  # both failed for the same reason
        columns = self.columns or said_columns(a, b)
        return min((likeness(a.get(c), b.get(c), self._metric) for c in columns), default=1.0)


def code_of(row: Row) -> str | None:
    """Tell why a row failed; None if it did not."""
    if row.get("status") != _FAILED:
        return None
    return (row.get("error") or {}).get("code") or "unknown"


def said_columns(a: Row, b: Row) -> list[str]:
    """Name the columns of a workflow's rows that are for its reader, and not about the row."""
    about = ("row_id", "parent_id", "parents")
    return [name for name in {**a, **b} if not (name.endswith("__meta") or name in about)]


def _key(column: str, row: Row) -> str:
    """Write what names a row.

    Raises:
        InvalidInput: nothing does.
    """
    name, sample = row.get(column), row.get("sample_index")
    if name is None:
        raise InvalidInput(
            f"a row has no {column}, so there is nothing to pair it by: rows have an id where the "
            "job was submitted with one (--id COLUMN); row_index pairs by place"
        )
    return f"{name}#{sample}" if sample else f"{name}"
