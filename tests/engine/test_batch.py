"""The flat step says exactly what the scheduled rows said."""

import pytest
import torch

from penstock.engine.batch import ScheduledRow, build_step_batch, next_step_batch
from penstock.kernels.prefix_groups import PrefixGroups, PrefixRoom

CPU = torch.device("cpu")


def test_rows_are_laid_out_one_after_the_other() -> None:
    rows = [
        ScheduledRow([10, 11, 12], 3, [7, 2]),  # three tokens over the border of two blocks
        ScheduledRow([20], 9, [5, 1, 6], num_logits=1),
        ScheduledRow([30, 31], 0, [8], num_logits=0),
    ]
    batch = build_step_batch(rows, 4, CPU)
    assert batch.token_ids.tolist() == [10, 11, 12, 20, 30, 31]
    assert batch.positions.tolist() == [3, 4, 5, 9, 0, 1]
    assert batch.slots.tolist() == [7 * 4 + 3, 2 * 4, 2 * 4 + 1, 6 * 4 + 1, 8 * 4, 8 * 4 + 1]
    assert batch.query_start.tolist() == [0, 3, 4, 6]
    assert batch.context_lens.tolist() == [6, 10, 2]
    assert batch.block_tables.tolist() == [[7, 2, 0], [5, 1, 6], [8, 0, 0]], "0 is the null block"
    assert batch.logit_rows.tolist() == [2, 3]
    assert batch.max_context_len == 10


def test_a_row_may_want_the_logits_of_all_its_tokens() -> None:
    rows = [ScheduledRow([1, 2, 3], 0, [4], num_logits=3), ScheduledRow([5], 0, [6])]
    assert build_step_batch(rows, 4, CPU).logit_rows.tolist() == [0, 1, 2, 3]


def test_blocks_that_a_row_has_but_does_not_reach_yet_are_left_out() -> None:
    batch = build_step_batch([ScheduledRow([1], 0, [4, 9, 3])], 4, CPU)
    assert batch.block_tables.tolist() == [[4]]


@pytest.mark.parametrize("rows", [[], [ScheduledRow([], 0, [1])]])
def test_a_step_of_nothing_is_refused(rows: list[ScheduledRow]) -> None:
    with pytest.raises(ValueError, match="at least one token each"):
        build_step_batch(rows, 4, CPU)


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="must hold 2 blocks for a row of 5 tokens, got 1"):
        build_step_batch([ScheduledRow([1, 2], 3, [4])], 4, CPU)


def test_groups_name_rows_by_their_places_and_end_when_some_leave() -> None:
    room = PrefixRoom.of(2)
    groups = PrefixGroups.over(torch.zeros(room.num_numbers, dtype=torch.int32), room)
    rows = [ScheduledRow([1], 0, [4]), ScheduledRow([2], 0, [5])]
    batch = build_step_batch(rows, 4, CPU, num_more=1, groups=groups)
    assert batch.prefix_groups is groups
    assert next_step_batch(batch, [7, 8], [0, 1], 4).prefix_groups is groups
    assert next_step_batch(batch, [7, 8], [1], 4).prefix_groups is None
