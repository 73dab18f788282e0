"""How often a step may be repeated in one turn of the scheduler. Knows lengths and blocks.

Where nobody need look at one token before the next, the same rows are computed again and again,
and what a turn costs is paid once for many tokens. Their blocks are taken beforehand.
"""

from collections.abc import Mapping

from .block_pool import BlockPool
from .sequence import Sequence


def may_repeat(plan: Mapping[Sequence, int]) -> bool:
    """Whether a step gives every row a token, and none must be seen to choose or tell the next."""
    return all(
        row.num_computed + 1 == row.num_known and row.can_run_ahead and not row.is_watched
        for row in plan
    )


def reserve_repeats(pool: BlockPool, plan: Mapping[Sequence, int], max_repeats: int) -> int:
    """Take the blocks for as many repeats as there is room for, and return their number."""
    num_left = {row: row.max_num_tokens - row.num_known for row in plan}
    num_repeats = min(max_repeats, max(num_left.values(), default=1))
    while num_repeats > 1:
        missing = {
            row: _num_blocks(pool, row.num_known + min(num_repeats, left) - 1)
            - len(row.block_table)
            for row, left in num_left.items()
        }
        blocks = pool.allocate(sum(number for number in missing.values() if number > 0))
        if blocks is None:
            num_repeats -= 1
            continue
        for row, number in missing.items():
            if number > 0:
                row.block_table += blocks[:number]
                del blocks[:number]
        break
    return num_repeats


def _num_blocks(pool: BlockPool, num_tokens: int) -> int:
    return -(-num_tokens // pool.block_size)
