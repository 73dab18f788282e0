"""The steps that have been captured, as many as there is memory for.

Knows kinds of steps and which of them can stand in for others. Refuses to know what a replay does.

    asked for      16 rows, 64 blocks, greedy
    found          16 rows, 64 blocks, greedy      its own; else, until that has come up often,
                   24 rows, 64 blocks, filtered    the nearest that has room and computes more
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

from .device_sampler import Needs
from .graphs import Replay, num_rungs

_PATIENCE_STEPS = 32
_PATIENCE_WHEN_FULL = 4  # times that, before another has to go
_MEMORY_STEPS = 4096  # in which a kind must come up so often
_GRAPHS_PER_RUNG = 3
_MAX_SURPLUS = 2  # times the rows, and
_MAX_SURPLUS_WIDTH = 4  # times the columns that a step asks for


def max_graphs(max_rows: int) -> int:
    """Return how many graphs are kept if no step has more than `max_rows`."""
    return _GRAPHS_PER_RUNG * num_rungs(max_rows)


@dataclass(frozen=True, slots=True)
class StepKind:
    """What a captured step has room for.

    Attributes:
        num_rows: rows, with padding.
        width: columns of the block tables.
        needs: what is computed beyond the likeliest tokens.
        has_groups: whether attention is told of prefixes that rows share.
    """

    num_rows: int
    width: int
    needs: Needs
    has_groups: bool

    def covers(self, other: "StepKind") -> bool:
        """Whether this can stand in for another, at a price that may be paid for a while."""
        return (
            other.num_rows <= self.num_rows <= _MAX_SURPLUS * other.num_rows
            and other.width <= self.width <= _MAX_SURPLUS_WIDTH * other.width
            and not other.needs & ~self.needs
            and self.has_groups == other.has_groups
        )

    def with_needs(self, needs: Needs, *, has_groups: bool = False) -> "StepKind":
        """Return a kind of the same size that computes something else."""
        return replace(self, needs=needs, has_groups=has_groups)

    @property
    def price(self) -> tuple[int, int, int]:
        """What makes one of several that cover a step the dearer."""
        return int(self.needs).bit_count(), self.num_rows, self.width


class Captured:
    """The replays there are. Beyond so many the one that was used longest ago is let go.

    A capture costs two steps launched by hand, and waits for the device besides; and where a job
    ends the number of rows passes every rung of the ladder. So another replay that covers a step
    will do until its own kind has come up often.
    """

    def __init__(self, max_replays: int) -> None:
        self._max_replays = max_replays
        self._replays: OrderedDict[StepKind, Replay] = OrderedDict()  # longest unused first
        self._num_asked = Counter[StepKind]()
        self._num_steps = 0
        self._seen: set[tuple[int, Needs, bool]] = set()

    def __len__(self) -> int:
        """Return how many replays there are."""
        return len(self._replays)

    def has(self, kind: StepKind) -> bool:
        """Whether there is a replay of this very kind."""
        return kind in self._replays

    def find(self, kind: StepKind, *, is_last_word: bool = False) -> tuple[StepKind, Replay] | None:
        """Return a replay that covers a step; None if there is none, or if it is due its own.

        `is_last_word` asks for any that covers it.
        """
        self._count(kind)
        found = kind if kind in self._replays else None
        if found is None and (is_last_word or self._num_asked[kind] <= self._patience):
            covering = (each for each in self._replays if each.covers(kind))
            found = min(covering, key=lambda each: each.price, default=None)
        if found is None:
            return None
        self._replays.move_to_end(found)
        return found, self._replays[found]

    def is_due(self, kind: StepKind) -> bool:
        """Whether a step that found no replay is worth a capture."""
        return not self._is_full or self._num_asked[kind] > self._patience

    def keep(self, kind: StepKind, replay: Replay) -> None:
        """Add a replay, just captured: the device has done all that was replayed before."""
        self._seen.add((kind.width, kind.needs, kind.has_groups))
        self._replays[kind] = replay
        if len(self._replays) > self._max_replays:
            self._replays.popitem(last=False)

    def has_seen(self, kind: StepKind) -> bool:
        """Whether a replay was ever kept that differs in nothing but the rows."""
        return (kind.width, kind.needs, kind.has_groups) in self._seen

    @property
    def _is_full(self) -> bool:
        return len(self._replays) >= self._max_replays

    @property
    def _patience(self) -> int:
        return _PATIENCE_STEPS * (_PATIENCE_WHEN_FULL if self._is_full else 1)

    def _count(self, kind: StepKind) -> None:
        self._num_steps += 1
        if self._num_steps % _MEMORY_STEPS == 0:
            self._num_asked.clear()
        if kind not in self._replays:
            self._num_asked[kind] += 1
