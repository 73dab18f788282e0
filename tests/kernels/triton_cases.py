"""What the tests of the Triton kernels share: a device, poisoned memory, attention's inputs.

On a machine with a GPU the kernels run there, in bfloat16 too; elsewhere in Triton's interpreter,
whose products of bfloat16 are not right.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from penstock.engine.batch import ScheduledRow
from penstock.engine.prefix_forest import PrefixForest
from penstock.kernels import reference
from penstock.kernels.prefix_groups import PrefixGroups
from penstock.kernels.reference import LayerCache

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
DTYPES = [torch.float32, torch.bfloat16 if ON_GPU else torch.float16]
ELEMENTWISE_DTYPES = [torch.float32, torch.bfloat16]
_TOLERANCES = {torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


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


def assert_agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = _TOLERANCES[found.dtype]
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def attention_case(
    rows: Sequence[tuple[int, int]],
    heads: int,
    kv_heads: int,
    dim: int,
    dtype: torch.dtype,
    block: int = 16,
    columns: int = 0,
) -> dict[str, Any]:
    """Rows of (queries, context); keys and values lie in shuffled blocks, NaN everywhere else.

    The cache is a slice of a larger storage, as a layer's is; tables have `columns` at least.
    """
    counts = [-(-context // block) for _, context in rows]
    storage = torch.full((1 + sum(counts), 3, 2, block, kv_heads, dim), torch.nan, dtype=dtype)
    cache = LayerCache(storage[:, 1, 0], storage[:, 1, 1])
    shuffled = (1 + torch.randperm(sum(counts))).tolist()
    tables = torch.zeros(len(rows), max(columns, *counts), dtype=torch.int32)
    for row, (count, (_, context)) in enumerate(zip(counts, rows, strict=True)):
        tables[row, :count] = torch.tensor([shuffled.pop() for _ in range(count)])
        place = torch.arange(context)
        slots = tables[row].long()[place // block] * block + place % block
        key, value = torch.randn(2, context, kv_heads, dim, dtype=dtype)
        reference.write_kv(key, value, cache, slots)
    queries = [count for count, _ in rows]
    return {
        "query": torch.randn(sum(queries), heads, dim, dtype=dtype),
        "cache": cache,
        "query_start": torch.tensor([0, *queries]).cumsum(0).int(),
        "context_lens": torch.tensor([context for _, context in rows]).int(),
        "block_tables": tables,
        "scale": dim**-0.5,
    }


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
