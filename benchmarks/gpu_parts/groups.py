"""The groups that the engine finds among rows of one token each, whatever they save."""

from collections.abc import Sequence

import torch

from penstock.engine.batch import ScheduledRow
from penstock.engine.prefix_forest import PrefixForest
from penstock.kernels.prefix_groups import PrefixGroups


def grouped(block_tables: torch.Tensor, lengths: Sequence[int]) -> PrefixGroups:
    """Return them on the tables' device; blocks are of 16 tokens."""
    rows = [
        ScheduledRow((0,), length - 1, table)
        for length, table in zip(lengths, block_tables.tolist(), strict=True)
    ]
    forest = PrefixForest(block_size=16, token_bytes=1 << 30, max_rows=len(rows))
    found = forest.find(rows)
    if found is None:
        raise ValueError(f"none of the {len(rows)} rows share 256 tokens")
    return PrefixGroups.over(torch.from_numpy(found).to(block_tables.device), forest.room)
