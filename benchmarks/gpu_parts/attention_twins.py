"""The attention kernels against their twin: head shapes, windows, softcaps, borders of blocks.

Fresh random inputs, outputs and unused places of the cache full of NaN, float32 and bfloat16.
"""

from collections.abc import Callable
from functools import partial

import torch
from comparing import Case, poisoned, wide_and_narrow, worst
from groups import grouped
from part import Part

from penstock.kernels import reference
from penstock.kernels.reference import LayerCache
from penstock.kernels.triton_cascade import cascade_attention
from penstock.kernels.triton_decode import decode_attention
from penstock.kernels.triton_ops import TritonOps
from penstock.kernels.triton_prefill import prefill_attention


def paged(
    rows: list[tuple[int, int]], heads: int, kv_heads: int, dim: int, dtype: torch.dtype
) -> Case:
    """Rows of (queries, context) over shuffled blocks, with NaN in every other place."""
    counts = [-(-context // 16) for _, context in rows]
    storage = torch.full((1 + sum(counts), 2, 2, 16, kv_heads, dim), torch.nan, dtype=dtype)
    cache = LayerCache(storage[:, 1, 0], storage[:, 1, 1])
    blocks = (1 + torch.randperm(sum(counts))).split(counts)
    tables = torch.zeros(len(rows), max(counts), dtype=torch.int32)
    for table, mine, (_, context) in zip(tables, blocks, rows, strict=True):
        table[: len(mine)] = mine
        place = torch.arange(context)
        key, value = torch.randn(2, context, kv_heads, dim, dtype=dtype)
        reference.write_kv(key, value, cache, mine[place // 16] * 16 + place % 16)
    queries = [count for count, _ in rows]
    return {
        "query": torch.randn(sum(queries), heads, dim, dtype=dtype),
        "cache": cache,
        "query_start": torch.tensor([0, *queries]).cumsum(0).int(),
        "context_lens": torch.tensor([context for _, context in rows]).int(),
        "block_tables": tables,
        "scale": dim**-0.5,
    }


def attention(kernel: Callable[..., torch.Tensor], part: Part, dtype: torch.dtype) -> Case:
    """The worst over head shapes, windows and softcaps."""
    single = kernel is decode_attention
    lengths = [1, 16, 17, 256, 257, 70] if part.tiny else [1, 15, 16, 17, 256, 257, 999, 2048, 3000]
    rows = [(1 if single else min(n, 1 + n // 2), n) for n in lengths]
    shapes = [(14, 2, 64), (16, 8, 128), (32, 8, 128), (8, 4, 256)]
    if dtype is torch.float32:
        shapes = shapes[:2]  # these take ten times as long to compile, and nobody serves in them
    if part.tiny:
        shapes = [(4, 2, 16)]
    pairs = []
    for heads, kv_heads, dim in shapes:
        variations: list[Case] = [{}, {"sliding_window": 100}, {"softcap": 5.0}]
        for options in variations:
            case = paged(rows, heads, kv_heads, dim, dtype)
            with poisoned():
                found = kernel(**case, **options)
            pairs.append((found, reference.paged_attention(**case, **options)))
    return worst(*pairs)


def cascade(part: Part, dtype: torch.dtype) -> Case:
    lengths = [300, 513, 257, 40, 700, 600]
    case = paged([(1, n) for n in lengths], 16, 8, 16 if part.tiny else 128, dtype)
    case["block_tables"][[4, 5], :32] = case["block_tables"][1, :32].clone()
    case["block_tables"][0, :16] = case["block_tables"][2, :16].clone()
    groups = grouped(case["block_tables"], lengths)
    with poisoned():
        found = cascade_attention(groups=groups, **case)
    return worst((found, reference.paged_attention(**case)))


def eight_bits(part: Part) -> Case:
    """Attention over a cache of eight-bit floats: of single tokens, of prompts, of shared ones."""
    dim, dtype = 16 if part.tiny else 128, torch.float32 if part.tiny else torch.bfloat16
    pairs = []
    for rows in ([(1, 700), (1, 40), (1, 600)], [(70, 70), (5, 300), (1, 600)]):
        case = paged(rows, 16, 8, dim, dtype)
        wide = case["cache"]
        narrow = [x.float().to(torch.float8_e4m3fn) for x in (wide.key, wide.value)]
        case["cache"] = LayerCache(narrow[0], narrow[1], key_scale=0.5, value_scale=2.0)
        with poisoned():
            found = TritonOps().paged_attention(**case)
        pairs.append((found, reference.paged_attention(**case)))
    return worst(*pairs)


def graph() -> Case:
    """A captured step of single tokens serves other lengths of the same rows, and other groups."""
    lengths = [700, 600, 90]
    case = paged([(1, length) for length in lengths], 16, 8, 128, torch.bfloat16)
    case["block_tables"][1, :32] = case["block_tables"][0, :32].clone()
    groups = grouped(case["block_tables"], lengths)
    wanted = groups.memory.clone()
    groups.memory.zero_()
    ops = TritonOps()
    ops.paged_attention(**case, groups=groups)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        found = ops.paged_attention(**case, groups=groups)
    case["context_lens"].copy_(torch.tensor([650, 599, 60]).int())
    groups.memory.copy_(wanted)
    captured.replay()
    torch.cuda.synchronize()
    return worst((found, reference.paged_attention(**case)))


def main() -> None:
    part = Part.from_command_line()
    kernels = {"decode": decode_attention, "prefill": prefill_attention}
    with part.device:
        for dtype in wide_and_narrow(part):
            kind = str(dtype).removeprefix("torch.")
            if part.choice in kernels:
                kernel = kernels[part.choice]
                part.attempt(f"{part.choice} {kind}", partial(attention, kernel, part, dtype))
            else:
                part.attempt(f"cascade {kind}", partial(cascade, part, dtype))
        if part.choice in kernels:
            return
        if part.has_eight_bits:
            part.attempt("cache in eight bits", partial(eight_bits, part))
        if part.device.type == "cuda":
            part.attempt("CUDA graph", graph)


if __name__ == "__main__":
    main()
