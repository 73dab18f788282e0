"""What the tests of all kernels share: attention's inputs, and how near is near enough."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from penstock.kernels import reference
from penstock.kernels.reference import LayerCache

_TOLERANCES = {torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}

# Makes a cache full of NaN, of (blocks, block size, key-value heads, head size, type): whatever is
# read without being written shows.
EmptyCache = Callable[[int, int, int, int, torch.dtype], LayerCache]


def assert_agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = _TOLERANCES[found.dtype]
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def sliced_cache(
    num_blocks: int, block: int, kv_heads: int, dim: int, dtype: torch.dtype
) -> LayerCache:
    """In the order that a GPU has: a slice of a larger storage, as a layer's is."""
    storage = torch.full((num_blocks, 3, 2, block, kv_heads, dim), torch.nan, dtype=dtype)
    return LayerCache(storage[:, 1, 0], storage[:, 1, 1])


def attention_case(
    rows: Sequence[tuple[int, int]],
    heads: int,
    kv_heads: int,
    dim: int,
    dtype: torch.dtype,
    block: int = 16,
    columns: int = 0,
    *,
    empty_cache: EmptyCache = sliced_cache,
) -> dict[str, Any]:
    """Rows of (queries, context); keys and values lie in shuffled blocks, NaN everywhere else.

    Tables have `columns` at least.
    """
    counts = [-(-context // block) for _, context in rows]
    cache = empty_cache(1 + sum(counts), block, kv_heads, dim, dtype)
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


def assert_faults_are_seen(
    attend: Callable[..., torch.Tensor], case: dict[str, Any], places: Sequence[int], fault: float
) -> None:
    """Damage some keys of the first row: outputs are no numbers where the twin's are none."""
    place = torch.tensor(places)
    blocks = case["block_tables"][0].long()[place // 16]
    case["cache"].key[blocks, place % 16, -1, 3] = fault
    case["query"][:, ::2, 3] += 9  # so that 3e38 overflows, and infinity has either sign
    case["query"][:, 1::2, 3] -= 9
    found, expected = attend(**case), reference.paged_attention(**case)
    assert torch.equal(found.isnan(), expected.isnan())
    assert expected.isnan().any()
    numbers = ~expected.isnan()
    assert_agree(found[numbers], expected[numbers])
