"""In which part of a step, or of an output, a row lies by its number. Reads footers, no rows.

Parts land one by one and stay as they are: of each, the footer is read once, also for somebody who
reads millions of rows page by page.
"""

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from ...durable import may_exist
from ...results_dir import ResultsDir
from ..workshop.shard_file import read_report

_KEPT = 16  # places whose parts are remembered


@dataclass(frozen=True, slots=True)
class _Ends:
    """Which parts have been walked, and how many rows there are up to the end of each."""

    parts: "array[int]" = field(default_factory=lambda: array("q"))
    rows: "array[int]" = field(default_factory=lambda: array("q"))

    @property
    def next_part(self) -> int:
        return self.parts[-1] + 1 if self.parts else 0

    @property
    def num_rows(self) -> int:
        return self.rows[-1] if self.rows else 0


class PartEnds:
    """Remembers how many rows there are up to the end of each part. For threads."""

    def __init__(self) -> None:
        self._ends: OrderedDict[Path, _Ends] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, place: ResultsDir, row: int, *, passes_gaps: bool = False) -> tuple[int, int]:
        """Name the part that a row lies in, or will, and count the rows of it that come before.

        Raises:
            CorruptPart: a part before it is damaged.
        """
        if row == 0:
            return 0, 0
        with self._lock:
            known = self._ends.get(place.rows, _Ends())
            ends = _Ends(known.parts[:], known.rows[:])
        while ends.num_rows <= row:
            part = landed_part(place, ends.next_part, passes_gaps=passes_gaps)
            if part is None:
                break
            num_rows = ends.num_rows + read_report(place.part(part)).rows_out
            ends.parts.append(part)
            ends.rows.append(num_rows)
        with self._lock:
            self._ends[place.rows] = ends
            self._ends.move_to_end(place.rows)
            if len(self._ends) > _KEPT:
                self._ends.popitem(last=False)
        at = bisect_right(ends.rows, row)
        part = ends.parts[at] if at < len(ends.parts) else ends.next_part
        return part, row - (ends.rows[at - 1] if at else 0)


def landed_part(place: ResultsDir, index: int, *, passes_gaps: bool) -> int | None:
    """Name the part to read on with from `index`; None where it has not landed yet.

    With `passes_gaps` it is the next one there is: of a run that has ended, none will land any more
    in between.
    """
    if may_exist(place.part(index)):
        return index
    if not passes_gaps:
        return None
    return next((part for part in place.parts() if part > index), None)
