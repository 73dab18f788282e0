"""Which line each running row has, and what the host must tell the device before a step.

Knows in what the device's tables differ from what the step needs; only that is sent, as (place,
number) pairs, all in one copy. Refuses to know logits.

A row that goes on needs nothing but the block that it has been given, one step in sixteen. One that
comes, or comes back, is placed anew: 12 bytes for each token to compute and each of its blocks.
Nobody tells of the rows that have gone: the line that was used longest ago is the next one's.
"""

from collections import OrderedDict
from collections.abc import Sequence as Rows
from typing import Protocol

import numpy as np
import torch

from .device_stream import Outbox
from .device_tables import PADDING, DeviceTables
from .sampling_tables import TableRows
from .sequence import Sequence
from .step import NOT_DRAWN, StepPart

_UNKNOWN = -2


class CannotServe(RuntimeError):
    """The device lacks what a step would need; the host can compute it."""


class RowParameters(Protocol):
    """Where rows' sampling parameters are kept; see `device_sampler.DeviceSampler`."""

    def place(self, line: int, sequence: Sequence) -> None:
        """Give a row a line, whoever had it before."""
        ...

    def take_staged(self) -> list[TableRows]:
        """Return what must be copied to the device before the next step."""
        ...


class _Line:
    """What the device holds of one row once it has done everything it was told to do."""

    __slots__ = ("block_table", "num_blocks", "num_computed", "num_known", "num_tokens", "number")

    def __init__(self, number: int, part: StepPart) -> None:
        self.number = number
        self.block_table = part.row.block_table
        self.num_blocks = 0
        self.num_computed = part.row.position
        self.num_known = -1  # as its table says
        # Penalties are counted from all tokens; else those before the step's are never looked at.
        self.num_tokens = part.row.position if part.sequence.history is None else 0

    def goes_on(self, part: StepPart) -> bool:
        """Whether a part begins where the line ends; a preempted row comes with another table."""
        row = part.row
        return self.block_table is row.block_table and self.num_computed == row.position


class _Edits:
    """Numbers on their way to places in the tables."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.numbers: list[int] = []

    def add(self, place: int, number: int) -> None:
        self.places.append(place)
        self.numbers.append(number)

    def extend(self, place: int, numbers: Rows[int]) -> None:
        self.places += range(place, place + len(numbers))
        self.numbers += numbers


class DeviceRows:
    """Keeps the tables as the next step needs them."""

    def __init__(self, tables: DeviceTables, parameters: RowParameters, outbox: Outbox) -> None:
        self._tables = tables
        self._parameters = parameters
        self._outbox = outbox
        self._free = [*range(tables.num_lines)]
        self._line_of: OrderedDict[Sequence, _Line] = OrderedDict()  # longest unused first
        self._sent_lines = np.full(tables.num_lines, _UNKNOWN)

    def send(
        self, parts: Rows[StepPart], num_padded: int, *more: torch.Tensor
    ) -> list[torch.Tensor]:
        """Have the device know what a step of these rows needs, and return `more` there.

        `DeviceTables.lines` begins with theirs, padded up to `num_padded`. The device is expected
        to compute the step next, and to draw a token for each row that catches up.

        Raises:
            CannotServe: a row waits for a token that the device has not drawn, or there is no room.
        """
        edits = _Edits()
        if coming := self._coming(parts):
            in_step = {part.sequence for part in parts}
            for part in coming:
                self._place(part, in_step, edits)
        lines = [self._line_of[part.sequence] for part in parts]
        for line, part in zip(lines, parts, strict=True):
            self._bring_up(line, part, edits)
        self._choose([line.number for line in lines], num_padded, edits)
        return self._deliver(edits, more)

    def forget(self, parts: Rows[StepPart]) -> None:
        """Take it that the device knows nothing of these rows, for a step of theirs has failed."""
        for part in parts:
            line = self._line_of.pop(part.sequence, None)
            if line is not None:
                self._free.append(line.number)
        self._sent_lines.fill(_UNKNOWN)

    def clear_lines(self) -> None:
        """Make a step of padding alone of whatever is computed next."""
        self._tables.lines.fill_(PADDING)
        self._sent_lines.fill(PADDING)

    def _coming(self, parts: Rows[StepPart]) -> list[StepPart]:
        """Return the parts whose rows do not go on from where their lines stand."""
        coming: list[StepPart] = []
        for part in parts:
            line = self._line_of.get(part.sequence)
            if line is not None:
                self._line_of.move_to_end(part.sequence)
            if line is None or not line.goes_on(part):
                coming.append(part)
        if any(part.is_pending for part in coming):
            raise CannotServe("a row waits for a token that the device has not drawn")
        return coming

    def _place(self, part: StepPart, in_step: set[Sequence], edits: _Edits) -> None:
        before = self._line_of.pop(part.sequence, None)
        if before is not None:
            self._free.append(before.number)
        elif not self._free:
            self._evict(in_step)
        line = _Line(self._free.pop(), part)
        self._line_of[part.sequence] = line
        self._parameters.place(line.number, part.sequence)
        edits.add(self._tables.computed_place(line.number), part.row.position)

    def _evict(self, in_step: set[Sequence]) -> None:
        """Free the line that was used longest ago, if it is none of this step's."""
        oldest = next(iter(self._line_of), None)
        if oldest is None or oldest in in_step:
            raise CannotServe("the device has no room for another row")
        self._free.append(self._line_of.pop(oldest).number)

    def _bring_up(self, line: _Line, part: StepPart, edits: _Edits) -> None:
        """Tell of what a row has more than its line, and note how the step will leave it."""
        row, end, tables = part.row, part.end, self._tables
        if line.num_tokens < end:
            before = part.sequence.token_ids[line.num_tokens : row.position]
            fresh = row.token_ids[max(0, line.num_tokens - row.position) :]
            edits.extend(tables.token_place(line.number, line.num_tokens), [*before, *fresh])
            line.num_tokens = end
        if line.num_blocks < len(row.block_table):
            blocks = row.block_table[line.num_blocks : tables.max_blocks]
            edits.extend(tables.block_place(line.number, line.num_blocks), blocks)
            line.num_blocks += len(blocks)
        is_drawn = part.place != NOT_DRAWN
        num_known = end if is_drawn else end + 1  # more than computed: nothing is drawn
        if line.num_known != num_known:
            edits.add(tables.known_place(line.number), num_known)
        line.num_known = end + 1
        line.num_tokens += is_drawn
        line.num_computed = end

    def _choose(self, lines: list[int], num_padded: int, edits: _Edits) -> None:
        wanted = np.full(num_padded, PADDING)
        wanted[: len(lines)] = lines
        for row in np.flatnonzero(self._sent_lines[:num_padded] != wanted).tolist():
            edits.add(self._tables.lines_place(row), int(wanted[row]))
        self._sent_lines[:num_padded] = wanted

    def _deliver(self, edits: _Edits, more: Rows[torch.Tensor]) -> list[torch.Tensor]:
        staged = self._parameters.take_staged()
        if not (edits.places or staged or more):
            return []
        places = torch.tensor(edits.places, dtype=torch.int64)
        sent = [places, torch.tensor(edits.numbers, dtype=torch.int32), *more]
        for rows in staged:
            sent += (rows.lines, rows.rows)
        places, numbers, *others = self._outbox.send(sent)
        self._tables.memory.scatter_(0, places, numbers)
        arrived = iter(others[len(more) :])
        for rows in staged:
            rows.table.index_copy_(0, next(arrived), next(arrived))
        return others[: len(more)]
