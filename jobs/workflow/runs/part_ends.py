"""In which part of a step, or of an output, a row lies by its number. Reads footers, no rows.

Parts land one by one and stay as they are: of each, the footer is read once, also for somebody who
reads millions of rows page by page.
"""

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path

from ...durable import may_exist
from ...results_dir import ResultsDir
from ..workshop.shard_file import read_report

_KEPT = 16  # places whose parts are remembered


class PartEnds:
    """Remembers how many rows there are up to the end of each part. For threads."""

    def __init__(self) -> None:
        self._ends: OrderedDict[Path, array[int]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, place: ResultsDir, row: int) -> tuple[int, int]:
        """Name the part that a row lies in, or will, and count the rows of it that come before.

        Raises:
            CorruptPart: a part before it is damaged.
        """
        if row == 0:
            return 0, 0
        with self._lock:
            ends = self._ends.get(place.rows, array("q"))[:]
        while (not ends or ends[-1] <= row) and may_exist(path := place.part(len(ends))):
            ends.append((ends[-1] if ends else 0) + read_report(path).rows_out)
        with self._lock:
            self._ends[place.rows] = ends
            self._ends.move_to_end(place.rows)
            if len(self._ends) > _KEPT:
                self._ends.popitem(last=False)
        part = bisect_right(ends, row)
        return part, row - (ends[part - 1] if part else 0)
