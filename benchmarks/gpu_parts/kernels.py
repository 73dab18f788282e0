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
    reference_logits,
    reference_sampling,
    triton_blocks,
    triton_elementwise,
    triton_experts,
    triton_filters,
    triton_history,
    triton_logits,
    triton_logprobs,
    triton_sampling,
    triton_step,
)
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.reference_logits import History, Penalties, Rules
from penstock.kernels.reference_sampling import Chances, Kept
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


def chances(rows: int) -> Chances:
    """Every fourth row takes the likeliest, every other one has top-k, all have top-p and min-p."""
    temperatures = torch.rand(rows) + 0.2
    temperatures[::4] = 0
    odd = torch.arange(rows) % 2
    return Chances(
        temperatures,
        torch.randint(-(2**62), 2**62, (rows,)),
        (torch.randint(0, 60, (rows,)) * odd * (temperatures > 0)).int(),
        (0.4 + 0.6 * torch.rand(rows)).where(temperatures > 0, 1.0),
        (0.02 * torch.rand(rows)).where(temperatures > 0, 0.0),
    )


def sampling(part: Part) -> Case:
    rows, vocab = (4, 5000) if part.tiny else (64, 151936)
    logits, lines = 3 * torch.randn(rows, vocab), torch.randperm(rows).int()
    places, limits = (torch.arange(rows) * 77).int(), chances(rows)
    with poisoned():
        kept = triton_filters.keep_likeliest(logits, lines, limits)
        tokens, _ = triton_sampling.sample(logits, lines, places, limits, kept)
        plain, _ = triton_sampling.sample(logits, lines, places, limits)
    expected = reference_sampling.keep_likeliest(logits, lines, limits)
    temperatures = limits[lines].temperatures
    tempered = logits / temperatures.where(temperatures != 0, 1.0)[:, None]
    # Sums of 150,000 weights round: the border of top-p may lie a few of the lightest tokens off.
    moved = (share_of(kept, tempered) - share_of(expected, tempered)).abs().max()
    pairs = []
    for drawn, limit in ((tokens, kept), (plain, None)):
        scores = reference_sampling.scores(logits, lines, places, limits, limit)
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
    lines, places = torch.randperm(rows).int(), torch.zeros(rows).int()
    lines[0] = -1
    penalties, rules, tables = penalties_of(rows), rules_of(rows, vocab), known_tokens(rows, vocab)
    raw = torch.randn(rows, vocab)
    changed, counted = [], []
    for kernels in ((triton_history, triton_logits), (reference_logits, reference_logits)):
        histories, logit_kernels = kernels
        history = History(
            torch.zeros(rows + 1, vocab).int(), torch.arange(rows).int(),
            torch.full((rows,), -1).int(), torch.full((rows,), 20).int(),
        )  # fmt: skip
        logits = raw.clone()
        histories.record(history, lines, tables)
        histories.penalise(logits, lines, history, penalties)
        logit_kernels.adjust(logits, lines, places, rules)
        logit_kernels.allow(logits, lines, rules)
        changed.append(logits)
        counted.append(history.counts[:-1])
    chosen, num_top = torch.randint(0, vocab, (rows,)), torch.full((rows,), 20).int()
    asked = (3 * torch.randn(rows, vocab), lines, chosen, num_top, 20)
    with poisoned():
        found = triton_logprobs.top_logprobs(*asked)
    wanted = reference_sampling.top_logprobs(*asked)
    real = lines >= 0
    told = [(one[real], other[real]) for one, other in zip(found, wanted, strict=True)]
    return worst((counted[0], counted[1]), (changed[0], changed[1]), *told)


def penalties_of(rows: int) -> Penalties:
    repetition = 0.5 + torch.rand(rows)
    return Penalties(repetition, 1 / repetition, torch.rand(rows), torch.rand(rows))


def rules_of(rows: int, vocab: int) -> Rules:
    return Rules(
        bias_ids=torch.stack([torch.randperm(vocab)[:8] for _ in range(rows)]).int(),
        biases=torch.randn(rows, 8),
        num_biases=torch.randint(0, 9, (rows,)).int(),
        allowed=torch.randint(-(2**31), 2**31 - 1, (rows, vocab // 32)).int(),
        is_limited=(torch.arange(rows) % 2).int(),
        endings=torch.randint(0, vocab, (rows, 2)).int(),
        num_endings=torch.randint(0, 3, (rows,)).int(),
        min_tokens=torch.randint(0, 2, (rows,)).int(),
    )


def known_tokens(rows: int, vocab: int) -> RowTables:
    known = torch.full((rows,), 64).int()
    return RowTables(torch.randint(0, vocab, (rows, 80)).int(), known, known, known[:, None])


def experts(part: Part, dtype: torch.dtype) -> Case:
    num_experts, inner, hidden = (4, 48, 40) if part.tiny else (32, 768, 1024)
    weights = torch.randn(num_experts, inner, hidden, dtype=dtype)
    pairs = []
    for rows in (5, 40 * num_experts):  # small tiles, and large ones
        x = torch.randn(rows, hidden, dtype=dtype) / hidden**0.5
        ends = torch.randint(0, rows + 1, (num_experts - 1,)).sort().values
        starts = torch.cat([ends.new_zeros(1), ends, ends.new_full((1,), rows)]).int()
        with poisoned():
            found = triton_experts.grouped_projection(weights)(x, starts)
        pairs.append((found, reference.grouped_projection(weights)(x, starts)))
    return worst(*pairs)


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
            part.attempt(f"experts {kind}", partial(experts, part, dtype))
        if part.device.type == "cpu" or torch.cuda.get_device_capability() >= (8, 9):
            part.attempt("cache in eight bits", partial(eight_bits, part))
        part.attempt("sampling", lambda: sampling(part))
        part.attempt("penalties, bitmask, logprobs", lambda: logit_changes(part))
        part.attempt("blocks and step inputs", lambda: blocks_and_steps(part))
        if part.device.type == "cuda":
            part.attempt("CUDA graph", graph)
