"""Who starts next among those who wait. Knows priorities, jobs and arrivals, no blocks.

    in front    urgent rows, and those chosen already: held back, or preempted
    lines       bulk rows, a line for each job

A row that joins a line brings a ticket for its job. The oldest ticket says whose turn it is, so
jobs are served as if in order of arrival, and the line says which of the job's rows goes.
"""

import heapq
from collections import deque
from collections.abc import Callable

from .job_line import JobLine
from .outputs import Priority
from .sequence import Sequence, SequenceStatus

FIRST_BULK = (Priority.INTERACTIVE + 1, 0)  # in order: whoever comes before this one is urgent

_LineKey = tuple[int, str, str]  # priority, job and cache salt: without one salt nothing is shared
_Ticket = tuple[int, int]  # priority and arrival


def is_urgent(sequence: Sequence) -> bool:
    """Whether it goes before bulk rows, by its priority or because it is its turn."""
    return sequence.order < FIRST_BULK


class _Line:
    """A job's rows and their tickets, of which there are as many."""

    __slots__ = ("rows", "tickets")

    def __init__(self, block_size: int) -> None:
        self.rows = JobLine(block_size)
        self.tickets: deque[_Ticket] = deque()


class WaitingQueue:
    """Rows that wait for their first step, or for their next one after a preemption.

    Near its end, when fewer rows of it wait than `num_slots`, a job's longest outputs go first.
    """

    def __init__(
        self, block_size: int, num_slots: int, expected_output: Callable[[Sequence], int]
    ) -> None:
        self._block_size = block_size
        self._num_slots = num_slots
        self._expected_output = expected_output
        self._front: list[tuple[tuple[int, int], Sequence]] = []  # a heap; may hold finished ones
        self._lines: dict[_LineKey, _Line] = {}
        self._num_in_front = 0

    def __len__(self) -> int:
        """Return the number of rows that wait."""
        return self._num_in_front + sum(len(line.rows) for line in self._lines.values())

    @property
    def has_urgent(self) -> bool:
        """Whether somebody urgent waits."""
        self._drop_finished()
        return bool(self._front) and is_urgent(self._front[0][1])

    def add(self, sequence: Sequence) -> None:
        """Let a new row wait."""
        if is_urgent(sequence):
            self.put_back(sequence)
            return
        line = self._lines.get(_line_key(sequence))
        if line is None:
            line = self._lines[_line_key(sequence)] = _Line(self._block_size)
        line.rows.add(sequence)
        line.tickets.append(sequence.order)

    def put_back(self, sequence: Sequence) -> None:
        """Let a row wait in front of others of its priority that have not been chosen yet."""
        heapq.heappush(self._front, (sequence.order, sequence))
        self._num_in_front += 1

    def remove(self, sequence: Sequence) -> None:
        """Forget a row, whose status must say so by the time of the next call."""
        key = _line_key(sequence)
        line = self._lines.get(key)
        if line is None or sequence not in line.rows:
            self._num_in_front -= 1  # it leaves the heap when it surfaces
            return
        line.rows.remove(sequence)
        line.tickets.pop()
        if not line.tickets:
            del self._lines[key]

    def peek(self) -> Sequence | None:
        """Return the one that goes next, and goes on being it until somebody comes in front."""
        self._drop_finished()
        key = min(self._lines, key=lambda key: self._lines[key].tickets[0], default=None)
        if key is not None and (not self._front or key[0] < self._front[0][0][0]):
            self.put_back(self._pop_line(key))
        return self._front[0][1] if self._front else None

    def pop(self) -> Sequence:
        """Take out the one that `peek` has just returned."""
        self._num_in_front -= 1
        return heapq.heappop(self._front)[1]

    def check(self) -> None:
        """Verify that everyone counted waits.

        Raises:
            RuntimeError: somebody was lost, or counted twice.
        """
        in_front = [s for _, s in self._front if s.status is SequenceStatus.WAITING]
        if len(in_front) != self._num_in_front or len({*in_front}) != len(in_front):
            raise RuntimeError(
                f"{len(in_front)} sequences wait in front, {self._num_in_front} were counted"
            )
        for key, line in self._lines.items():
            if len(line.tickets) != len(line.rows):
                raise RuntimeError(
                    f"{len(line.rows)} rows of {key} wait with {len(line.tickets)} tickets"
                )

    def _pop_line(self, key: _LineKey) -> Sequence:
        line = self._lines[key]
        line.tickets.popleft()
        is_tail = len(line.rows) < self._num_slots
        sequence = line.rows.pop(self._expected_output if is_tail else None)
        if not line.tickets:
            del self._lines[key]
        return sequence

    def _drop_finished(self) -> None:
        while self._front and self._front[0][1].status is SequenceStatus.FINISHED:
            heapq.heappop(self._front)


def _line_key(sequence: Sequence) -> _LineKey:
    request = sequence.request
    return (request.priority, request.job, request.cache_salt)
