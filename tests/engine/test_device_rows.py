"""What the device is told before a step: whatever has changed, and nothing else."""

from collections.abc import Sequence as Rows
from typing import Any

import pytest
import torch

from penstock.engine.device_rows import CannotServe, DeviceRows
from penstock.engine.device_stream import HostStream, Outbox
from penstock.engine.device_tables import DeviceTables
from penstock.engine.sampling_tables import TableRows
from penstock.engine.sequence import Sequence
from penstock.engine.step import Step, StepPart
from penstock.kernels.reference_cache import advance

from .sampled_rows import row as make_row

CPU = torch.device("cpu")


class Parameters:
    """Remembers who has which line."""

    def __init__(self) -> None:
        self.owners: dict[int, Sequence] = {}
        self.table = torch.zeros(16, dtype=torch.int64)
        self._staged: list[TableRows] = []

    def place(self, line: int, sequence: Sequence) -> None:
        self.owners[line] = sequence
        number = torch.tensor([sequence.num_prompt])
        self._staged.append(TableRows(self.table, torch.tensor([line]), number))

    def take_staged(self) -> list[TableRows]:
        staged, self._staged = self._staged, []
        return staged


class CountingOutbox(Outbox):
    num_edits = 0

    def send(self, tensors: Rows[torch.Tensor]) -> list[torch.Tensor]:
        self.num_edits += len(tensors[0])
        return super().send(tensors)


class Device:
    """Rows, their tables, and a scheduler's part of what happens to them."""

    def __init__(self, num_lines: int = 4) -> None:
        self.tables = DeviceTables(num_lines=num_lines, max_tokens=40, block_size=4, device=CPU)
        self.parameters = Parameters()
        self.outbox = CountingOutbox(HostStream(), CPU)
        self.rows = DeviceRows(self.tables, self.parameters, self.outbox)

    def step(self, *plan: tuple[Sequence, int], num_padded: int | None = None) -> int:
        """Let the device compute a step, and return how many numbers it was sent."""
        before = self.outbox.num_edits
        parts = Step.of(dict(plan)).parts
        self.rows.send(parts, num_padded or len(parts))
        counts = torch.tensor([0, *(count for _, count in plan)])
        lines = self.tables.lines[: len(parts)]
        advance(self.tables.rows, lines, counts.cumsum(0).int(), 900 + torch.arange(len(parts)))
        for part in parts:
            take(part)
        return self.outbox.num_edits - before

    def known_to_device(self, sequence: Sequence, first: int = 0) -> list[int]:
        line = next(line for line, owner in self.parameters.owners.items() if owner is sequence)
        known = int(self.tables.rows.num_known[line])
        return self.tables.rows.tokens[line, first:known].tolist()

    def blocks_of(self, sequence: Sequence) -> list[int]:
        line = next(line for line, owner in self.parameters.owners.items() if owner is sequence)
        blocks = self.tables.rows.blocks[line, : len(sequence.block_table)]
        return blocks.tolist()


def take(part: StepPart) -> None:
    part.sequence.num_pending += part.end == part.sequence.num_known
    part.sequence.num_computed = part.end


def sequence(num_prompt: int, blocks: Rows[int], **params: Any) -> Sequence:
    made = make_row(prompt=(*range(100, 100 + num_prompt),), max_tokens=30, **params)
    made.block_table = [*blocks]
    return made


def test_a_row_that_goes_on_is_told_nothing_but_its_new_blocks() -> None:
    device, row = Device(), sequence(6, [7, 3])
    assert device.step((row, 6)) == 1 + 6 + 2 + 1 + 1, "computed, tokens, blocks, known, its line"
    assert device.known_to_device(row) == [*range(100, 106), 900]
    assert device.step((row, 1)) == 0
    assert device.step((row, 1)) == 0
    row.block_table.append(9)
    assert device.step((row, 1)) == 1
    assert device.blocks_of(row) == [7, 3, 9]
    assert device.known_to_device(row)[6:] == [900] * 4


def test_chunks_draw_nothing_before_the_last() -> None:
    device, row = Device(), sequence(11, [1, 2, 3])
    device.step((row, 4))
    device.step((row, 4))
    assert int(device.tables.rows.num_computed[3]) == 8
    assert 900 not in device.tables.rows.tokens
    device.step((row, 3))
    assert device.known_to_device(row) == [*range(100, 111), 900]


def test_a_preempted_row_is_placed_anew() -> None:
    device, row = Device(), sequence(3, [5])
    device.step((row, 3))
    row.token_ids.append(900)
    row.num_pending = row.num_computed = 0
    row.block_table = [8]
    assert device.step((row, 4)) == 1 + 4 + 1 + 1
    assert device.blocks_of(row) == [8]
    assert device.known_to_device(row) == [100, 101, 102, 900, 900]


def test_a_row_that_comes_back_where_it_was_has_other_blocks() -> None:
    device, row = Device(), sequence(4, [5])
    device.step((row, 4))
    row.token_ids.append(900)
    row.num_pending = 0
    row.block_table = [8, 9]  # of which the first was found in the prefix cache
    device.step((row, 1))
    assert device.blocks_of(row) == [8, 9]
    assert device.known_to_device(row, first=4) == [900, 900]


def test_a_row_that_was_computed_elsewhere_is_placed_where_it_stands() -> None:
    device, row = Device(), sequence(3, [5])
    device.step((row, 3))
    row.token_ids += [55, 56]
    row.num_pending, row.num_computed = 0, 4
    assert device.step((row, 1)) == 1 + 1 + 1 + 1, "computed, one token, its block, known"
    assert device.known_to_device(row, first=4) == [56, 900]


def test_penalties_are_counted_from_every_token() -> None:
    device, row = Device(), sequence(6, [5, 6], repetition_penalty=1.5)
    row.num_computed = 4  # which the prefix cache had
    device.step((row, 2))
    assert device.known_to_device(row) == [*range(100, 106), 900]


def test_the_line_that_was_used_longest_ago_is_the_next_ones() -> None:
    device = Device(num_lines=2)
    rows = [sequence(3, [number]) for number in range(1, 5)]
    device.step((rows[0], 3), (rows[1], 3))
    device.step((rows[0], 1))
    device.step((rows[2], 3))
    assert {*device.parameters.owners.values()} == {rows[0], rows[2]}
    device.step((rows[3], 3), (rows[2], 1))
    assert {*device.parameters.owners.values()} == {rows[3], rows[2]}, "never one of the step's"
    parts = Step.of(dict.fromkeys(rows[1:], 1)).parts
    with pytest.raises(CannotServe, match="no room for another row"):
        device.rows.send([part._replace(is_pending=False) for part in parts], 3)


def test_a_row_waits_for_no_token_that_was_drawn_elsewhere() -> None:
    device, row = Device(), sequence(3, [5])
    row.num_computed, row.num_pending = 3, 1
    with pytest.raises(CannotServe, match="has not drawn"):
        device.rows.send(Step.of({row: 1}).parts, 1)


def test_what_a_failed_step_was_told_is_forgotten() -> None:
    device, row = Device(), sequence(3, [5])
    parts = Step.of({row: 3}).parts
    device.rows.send(parts, 1)
    device.rows.forget(parts)
    device.parameters.owners.clear()
    device.step((row, 3))
    assert device.known_to_device(row) == [100, 101, 102, 900]


def test_lines_are_padded_and_sent_where_they_differ() -> None:
    device = Device()
    rows = [sequence(3, [number]) for number in range(1, 4)]
    device.step(*((row, 3) for row in rows), num_padded=4)
    assert device.tables.lines.tolist() == [3, 2, 1, -1]
    assert device.step(*((row, 1) for row in rows), num_padded=4) == 0
    assert device.step((rows[0], 1), (rows[2], 1), num_padded=2) == 1
    assert device.tables.lines[:2].tolist() == [3, 1]
    device.rows.clear_lines()
    assert device.tables.lines.tolist() == [-1] * 4
    assert device.step((rows[1], 1), num_padded=2) == 1


def test_parameters_travel_with_the_rest() -> None:
    device, row = Device(), sequence(6, [7, 3])
    device.step((row, 6))
    (line,) = device.parameters.owners
    assert device.parameters.table.tolist() == [6 if i == line else 0 for i in range(16)]
