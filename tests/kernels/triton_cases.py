"""What the tests of the Triton kernels share: a device, poisoned memory, caches in eight bits.

On a machine with a GPU the kernels run there, in bfloat16 too; elsewhere in Triton's interpreter,
whose products of bfloat16 are not right.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from penstock.engine.batch import ScheduledRow
from penstock.engine.prefix_forest import PrefixForest
from penstock.kernels.prefix_groups import PrefixGroups, PrefixRoom
from penstock.kernels.reference import LayerCache

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
DTYPES = [torch.float32, torch.bfloat16 if ON_GPU else torch.float16]
ELEMENTWISE_DTYPES = [torch.float32, torch.bfloat16]


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill what `torch.empty` returns with NaN or the largest integers: unwritten outputs show."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        # NumPy, which interprets, warns of numbers that a GPU computes with in silence.
        with torch.device(DEVICE), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="All-NaN", category=RuntimeWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def no_groups(max_rows: int, device: torch.device) -> PrefixGroups:
    """Return room for groups, empty, as an engine begins with it."""
    room = PrefixRoom.of(max_rows)
    memory = torch.zeros(room.num_numbers, dtype=torch.int32, device=device)
    return PrefixGroups.over(memory, room)


def grouped(case: dict[str, Any]) -> PrefixGroups:
    """The groups that the engine finds among a case's rows, whatever they save."""
    tables = case["block_tables"].tolist()
    counts = case["query_start"].diff().tolist()
    rows = [
        ScheduledRow([0] * count, context - count, table)
        for count, context, table in zip(counts, case["context_lens"].tolist(), tables, strict=True)
    ]
    forest = PrefixForest(
        block_size=case["cache"].key.shape[1], token_bytes=1 << 30, max_rows=len(rows)
    )
    found = forest.find(rows)
    assert found is not None
    return PrefixGroups.over(torch.from_numpy(found).to(DEVICE), forest.room)


def in_eight_bits(wide: LayerCache, key_scale: float, value_scale: float) -> LayerCache:
    """The same numbers in eight-bit floats, at these scales."""
    return LayerCache(
        (wide.key / key_scale).to(torch.float8_e4m3fn),
        (wide.value / value_scale).to(torch.float8_e4m3fn),
        key_scale=key_scale,
        value_scale=value_scale,
    )
