"""When bulk rows go first for once. Knows a row's place in the order, no blocks.

Urgent rows may leave bulk rows no room, in a trickle that never ends. So every now and then the
oldest of those has a turn: it goes before everybody, for a few tokens.
"""

from .outputs import Priority
from .sequence import Sequence, SequenceStatus

_PATIENCE_STEPS = 128  # in which bulk rows wait and none moves on, before the oldest has a turn
_TURN_TOKENS = 16  # generated in a turn; what urgent ones feel of it is this and one prompt
_TURN_PRIORITY = Priority.INTERACTIVE - 1


class Turns:
    """Counts how long bulk rows have stood still, and lends one of them the first place."""

    def __init__(self) -> None:
        self._num_idle_steps = 0  # in which bulk rows waited and none moved on
        self._row: Sequence | None = None  # the bulk row that goes before everybody
        self._last_num_generated = 0  # at which it is one of many again

    def is_due(self, *, stands_still: bool) -> bool:
        """Note whether bulk rows wait and none moves on in this step; say if one may go first."""
        self._num_idle_steps = self._num_idle_steps + 1 if stands_still else 0
        return self._num_idle_steps > _PATIENCE_STEPS and self._row is None

    def begin(self, row: Sequence) -> None:
        """Put a waiting bulk row before everybody."""
        self._num_idle_steps = 0
        self._row = row
        self._last_num_generated = row.num_generated + _TURN_TOKENS
        row.order = (_TURN_PRIORITY, row.order[1])

    def end(self) -> Sequence | None:
        """Put the row back among the others once it has had its turn, and return it if it runs."""
        row = self._row
        if row is None:
            return None
        if row.status is SequenceStatus.FINISHED:
            self._row = None
        elif row.status is SequenceStatus.RUNNING and row.num_generated >= self._last_num_generated:
            self._row = None
            row.order = (row.request.priority, row.order[1])
            return row
        return None
