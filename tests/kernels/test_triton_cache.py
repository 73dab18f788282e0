"""Blocks are copied, and steps laid out on the device, as their twins and the engine do it."""

from dataclasses import fields

import pytest
import torch

from penstock.engine.batch import ScheduledRow, build_step_batch
from penstock.kernels import reference_cache, triton_blocks, triton_step
from penstock.kernels.reference_cache import RowTables
from tests.kernels.triton_cases import DEVICE

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_blocks(dtype: torch.dtype) -> None:
    storage = torch.randn(6, 2, 2, 16, 2, 160).to(dtype)  # more than a program's share
    expected = storage.clone()
    pairs = torch.tensor([[1, 4], [3, 5]])
    reference_cache.copy_blocks(expected.view(torch.uint8), expected.view(torch.uint8), pairs)
    triton_blocks.copy_blocks(storage, storage, pairs)
    assert torch.equal(storage.view(torch.uint8), expected.view(torch.uint8))


def test_blocks_go_to_the_host_and_come_back() -> None:
    storage = torch.randn(6, 40)
    before, blocks = storage.clone(), torch.tensor([4, 1, 2])
    room = torch.empty(3, 40, device="cpu", pin_memory=DEVICE.type == "cuda")
    triton_blocks.blocks_to_host(storage, blocks, room)
    storage[blocks] = 0
    triton_blocks.blocks_from_host(room, storage, blocks)
    assert torch.equal(storage, before)


def test_blocks_that_do_not_match_are_refused() -> None:
    pairs = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="blocks must be of one size, got 32 and 64 bytes"):
        triton_blocks.copy_blocks(torch.zeros(2, 8), torch.zeros(2, 16), pairs)
    with pytest.raises(ValueError, match="source must be contiguous blocks"):
        triton_blocks.copy_blocks(torch.zeros(8, 2).T, torch.zeros(2, 8), pairs)


def tables() -> RowTables:
    lines, max_tokens, max_blocks = 5, 600, 40
    num_computed = torch.tensor([0, 17, 300, 5, 32]).int()
    return RowTables(
        tokens=torch.randint(1, 1000, (lines, max_tokens)).int(),
        num_known=num_computed + torch.tensor([1, 1, 280, 9, 1]).int(),
        num_computed=num_computed,
        blocks=(1 + torch.randperm(lines * max_blocks)).view(lines, max_blocks).int(),
    )


def test_step_inputs() -> None:
    state = tables()
    lines, counts = torch.tensor([4, -1, 2, 0, 3]).int(), [1, 1, 280, 1, 5]
    query_start = torch.tensor([0, *counts]).cumsum(0).int()
    case = (state, lines, query_start, sum(counts), 16)
    found, expected = triton_step.step_inputs(*case), reference_cache.step_inputs(*case)
    for field in fields(found):
        assert torch.equal(getattr(found, field.name), getattr(expected, field.name)), field.name
    # What the host builds for the rows that are no padding is the same.
    rows = []
    for line, count in zip(lines.tolist(), counts, strict=True):
        if line >= 0:
            first = int(state.num_computed[line])
            tokens = state.tokens[line, first : first + count].tolist()
            rows.append(ScheduledRow(tokens, first, state.blocks[line].tolist()))
    batch = build_step_batch(rows, 16, DEVICE)
    real = torch.tensor([0, *range(2, sum(counts))])
    assert torch.equal(found.token_ids[real], batch.token_ids)
    assert torch.equal(found.positions[real], batch.positions)
    assert torch.equal(found.slots[real], batch.slots)
    assert torch.equal(found.context_lens[[0, 2, 3, 4]], batch.context_lens)
    assert found.slots[1] == -1


def test_advance() -> None:
    found = tables()
    expected = RowTables(*(getattr(found, field.name).clone() for field in fields(found)))
    lines, query_start = torch.tensor([4, -1, 2, 3]).int(), torch.tensor([0, 1, 2, 282, 287]).int()
    drawn = torch.tensor([7001, 7002, 7003, 7004])
    triton_step.advance(found, lines, query_start, drawn)
    reference_cache.advance(expected, lines, query_start, drawn)
    for field in fields(found):
        assert torch.equal(getattr(found, field.name), getattr(expected, field.name)), field.name
    assert found.tokens[4, 33] == 7001
    assert not (found.tokens == 7004).any()  # row 3 has not caught up


def test_step_inputs_of_leading_columns() -> None:
    state = tables()
    narrow = RowTables(state.tokens, state.num_known, state.num_computed, state.blocks[:, :3])
    lines, query_start = torch.tensor([4, -1, 3]).int(), torch.tensor([0, 1, 2, 7]).int()
    case = (narrow, lines, query_start, 7, 16)
    found, expected = triton_step.step_inputs(*case), reference_cache.step_inputs(*case)
    for field in fields(found):
        assert torch.equal(getattr(found, field.name), getattr(expected, field.name)), field.name
    assert torch.equal(found.block_tables[0], state.blocks[4, :3])
