"""Every kernel against its twin: fresh random inputs, outputs full of NaN, float32 and bfloat16.

A finding has `worst`, the largest difference over what is allowed: it passes up to 1.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from groups import grouped
from part import Part

from penstock.kernels import (
    reference,
    reference_cache,
    reference_sampling,
    triton_blocks,
    triton_elementwise,
    triton_filters,
    triton_logits,
    triton_logprobs,
    triton_sampling,
    triton_step,
)
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.reference_sampling import Kept, Penalties
from penstock.kernels.triton_cascade import cascade_attention
from penstock.kernels.triton_decode import decode_attention
from penstock.kernels.triton_ops import TritonOps
from penstock.kernels.triton_prefill import prefill_attention
from penstock.kernels.triton_rotary import rotate_and_cache

ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
Case = dict[str, Any]


@contextmanager
def poisoned() -> Iterator[None]:
    """Let `torch.empty` return NaN and the largest integers."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def worst(*pairs: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
    """Compare what was found with what was expected; NaN where none is expected is infinite."""
    ratios = [0.0]
    for found, expected in pairs:
        allowed = ALLOWED.get(found.dtype, 0.0)
        found, expected = found.double(), expected.double()
        same = (found == expected) | (found.isnan() & expected.isnan())
        excess = (found - expected).abs() / (allowed * (1 + expected.abs())).clamp(min=1e-300)
        excess = excess.nan_to_num(nan=float("inf")).masked_fill(same, 0.0)
        ratios.append(float(excess.max()) if excess.numel() else 0.0)
    return {"worst": min(round(max(ratios), 4), 1e9), "passed": max(ratios) <= 1}


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
    shapes = [(4, 2, 16)] if part.tiny else [(14, 2, 64), (16, 8, 128), (32, 8, 128), (8, 4, 256)]
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


def rotation(part: Part, dtype: torch.dtype) -> Case:
    pairs = []
    for heads, kv_heads, dim in [(14, 2, 64), (16, 8, 128)]:
        tokens = 3 if part.tiny else 300
        qkv = torch.randn(tokens, (heads + 2 * kv_heads) * dim, dtype=dtype)
        positions, table = torch.randint(0, 500, (tokens,)), torch.randn(500, dim)
        slots = 16 + torch.randperm(tokens)
        slots[1] = -1
        for norm in (None, HeadNorm(torch.randn(dim), torch.randn(dim), 1e-6)):
            shape = (2, 40, 16, kv_heads, dim)
            ours, theirs = (LayerCache(*torch.zeros(shape, dtype=dtype)) for _ in range(2))
            with poisoned():
                found = rotate_and_cache(qkv, positions, table, ours, slots, norm)
            expected = reference.rotate_and_cache(qkv, positions, table, theirs, slots, norm)
            pairs += [(found, expected), (ours.key, theirs.key), (ours.value, theirs.value)]
    return worst(*pairs)


def elementwise(part: Part, dtype: torch.dtype) -> Case:
    rows, size = (3, 80) if part.tiny else (257, 4096)
    x, residual, weight = *torch.randn(2, rows, size, dtype=dtype), torch.randn(size)
    stream, gate_up = residual.clone(), 4 * torch.randn(rows, 2 * size, dtype=dtype)
    with poisoned():
        added = triton_elementwise.add_rms_norm(x, stream, weight, 1e-6)
        silu = triton_elementwise.silu_and_mul(gate_up)
        gelu = triton_elementwise.gelu_and_mul(gate_up)
    return worst(
        (triton_elementwise.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6)),
        (added, reference.add_rms_norm(x, residual, weight, 1e-6)),
        (stream, residual),
        (silu, reference.silu_and_mul(gate_up)),
        (gelu, reference.gelu_and_mul(gate_up)),
    )


def sampling(part: Part) -> Case:
    rows, vocab = (4, 5000) if part.tiny else (64, 151936)
    logits = 3 * torch.randn(rows, vocab)
    temperatures = torch.rand(rows) + 0.2
    temperatures[::4] = 0
    keys, counters = torch.randint(-(2**62), 2**62, (rows,)), torch.arange(rows) * 77
    top_k = torch.randint(0, 60, (rows,)).int() * (torch.arange(rows) % 2).int()
    top_p, min_p = 0.4 + 0.6 * torch.rand(rows), 0.02 * torch.rand(rows)
    limits = (logits, temperatures, top_k, top_p, min_p)
    with poisoned():
        kept = triton_filters.keep_likeliest(*limits)
        tokens, _ = triton_sampling.sample(logits, temperatures, keys, counters, kept)
        plain, _ = triton_sampling.sample(logits, temperatures, keys, counters)
    expected = reference_sampling.keep_likeliest(*limits)
    tempered = logits / temperatures.where(temperatures != 0, 1.0)[:, None]
    # Sums of 150,000 weights round: the border of top-p may lie a few of the lightest tokens off.
    moved = (share_of(kept, tempered) - share_of(expected, tempered)).abs().max()
    pairs = []
    for drawn, limit in ((tokens, kept), (plain, None)):
        scores = reference_sampling.scores(logits, temperatures, keys, counters, limit)
        pairs.append((scores.gather(1, drawn[:, None])[:, 0], scores.amax(-1)))
    found = worst(*pairs)
    return found | {"border_off": float(moved), "passed": found["passed"] and float(moved) < 1e-5}


def share_of(kept: Kept, tempered: torch.Tensor) -> torch.Tensor:
    """Return the probability of what is kept."""
    is_equal = tempered == kept.lowest[:, None]
    ids = torch.arange(tempered.shape[1])
    is_kept = (tempered > kept.lowest[:, None]) | is_equal & (ids <= kept.last_id[:, None])
    return (tempered.double().softmax(-1) * is_kept).sum(-1)


def logit_changes(part: Part) -> Case:
    rows, vocab = (3, 5000) if part.tiny else (64, 151936)
    logits, slots = torch.randn(rows, vocab), torch.randperm(rows) - 1
    history = torch.randint(0, 4, (rows, vocab), dtype=torch.int32)
    twin, expected = history.clone(), logits.clone()
    penalties = Penalties(0.5 + torch.rand(rows), torch.rand(rows), torch.rand(rows))
    token_ids = torch.randint(0, vocab, (rows,))
    bits = torch.randint(-(2**31), 2**31 - 1, (rows // 2, vocab // 32)).int()
    masked = torch.arange(0, 2 * (rows // 2), 2)
    triton_logits.record(history, slots, token_ids)
    triton_logits.penalise(logits, history, slots, penalties)
    triton_logits.allow(logits, masked, bits)
    reference_sampling.record(twin, slots, token_ids)
    reference_sampling.penalise(expected, twin, slots, penalties)
    reference_sampling.allow(expected, masked, bits)
    raw = 3 * torch.randn(rows, vocab)
    with poisoned():
        found = triton_logprobs.top_logprobs(raw, token_ids, 20)
    wanted = reference_sampling.top_logprobs(raw, token_ids, 20)
    return worst((history, twin), (logits, expected), *zip(found, wanted, strict=True))


def blocks_and_steps(part: Part) -> Case:
    storage = torch.randn(50, 2, 2, 16, 2, 64)
    copied, pairs = storage.clone(), torch.randperm(50)[:20].view(10, 2)
    triton_blocks.copy_blocks(copied, copied, pairs)
    reference_cache.copy_blocks(storage, storage, pairs)
    computed = torch.randint(0, 500, (64,)).int()
    tables = RowTables(
        tokens=torch.randint(1, 1000, (64, 2048)).int(),
        num_known=computed + 1,
        num_computed=computed,
        blocks=torch.randint(1, 999, (64, 128)).int(),
    )
    lines = torch.randperm(64).int()
    lines[3] = -1
    counts = torch.where(lines < 0, 1, torch.randint(1, 700, (64,)))
    starts = torch.cat([torch.zeros(1), counts.cumsum(0)]).int()
    case = (tables, lines, starts, int(starts[-1]), 16)
    with poisoned():
        found = triton_step.step_inputs(*case)
    expected = reference_cache.step_inputs(*case)
    names = ("token_ids", "positions", "slots", "context_lens", "block_tables")
    return worst((copied, storage), *((getattr(found, n), getattr(expected, n)) for n in names))


def graph() -> Case:
    """A captured step of single tokens serves other lengths of the same rows."""
    case = paged([(1, 700), (1, 300), (1, 90)], 16, 8, 128, torch.bfloat16)
    ops = TritonOps()
    ops.paged_attention(**case)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        found = ops.paged_attention(**case)
    case["context_lens"].copy_(torch.tensor([1, 299, 60]).int())
    captured.replay()
    torch.cuda.synchronize()
    return worst((found, reference.paged_attention(**case)))


if __name__ == "__main__":
    part = Part.from_command_line()
    if part.device.type == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")
    wide, narrow = torch.float32, torch.bfloat16 if part.device.type == "cuda" else torch.float16
    with part.device:
        for dtype in (wide, narrow):
            kind = str(dtype).removeprefix("torch.")
            part.attempt(f"decode {kind}", partial(attention, decode_attention, part, dtype))
            part.attempt(f"prefill {kind}", partial(attention, prefill_attention, part, dtype))
            part.attempt(f"cascade {kind}", partial(cascade, part, dtype))
            part.attempt(f"rotation {kind}", partial(rotation, part, dtype))
            part.attempt(f"elementwise {kind}", partial(elementwise, part, dtype))
        part.attempt("sampling", lambda: sampling(part))
        part.attempt("penalties, bitmask, logprobs", lambda: logit_changes(part))
        part.attempt("blocks and step inputs", lambda: blocks_and_steps(part))
        if part.device.type == "cuda":
            part.attempt("CUDA graph", graph)
