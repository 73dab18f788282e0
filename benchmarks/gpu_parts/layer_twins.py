"""The kernels around attention against their twins: layers, experts, cache blocks, step inputs.

Fresh random inputs, outputs full of NaN, float32 and bfloat16.
"""

from functools import partial

import torch
from comparing import Case, poisoned, wide_and_narrow, worst
from part import Part

from penstock.kernels import (
    reference,
    reference_cache,
    triton_blocks,
    triton_elementwise,
    triton_experts,
    triton_step,
)
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.triton_rotary import rotate_and_cache


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


def rotation_to_eight_bits(part: Part) -> Case:
    """What is written is the nearest eight-bit float, or its neighbour."""
    tokens, heads, kv_heads, dim = 3 if part.tiny else 300, 16, 8, 128
    dtype = torch.float32 if part.tiny else torch.bfloat16
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * dim, dtype=dtype)
    positions, table = torch.randint(0, 500, (tokens,)), torch.randn(500, dim)
    written: list[LayerCache] = []
    queries = []
    for rotate in (rotate_and_cache, reference.rotate_and_cache):
        storage = torch.zeros(2, 40, 16, kv_heads, dim).to(torch.float8_e4m3fn)
        cache = LayerCache(storage[0], storage[1], key_scale=0.5, value_scale=2.0)
        queries.append(rotate(qkv, positions, table, cache, 16 + torch.arange(tokens), None))
        written.append(cache)
    found = worst((queries[0], queries[1]))
    unequal, far = 0.0, 0.0
    for name in ("key", "value"):
        ours, theirs = (getattr(cache, name).float() for cache in written)
        unequal = max(unequal, float((ours != theirs).float().mean()))
        off = (ours - theirs).abs() / theirs.abs().clamp(min=2.0**-4)  # the smallest lie evenly
        far = max(far, float(off.max()))
    # Neighbours are an eighth of a number apart at most, and few numbers lie between two.
    passed = found["passed"] and far <= 0.126 and unequal < 0.02
    return found | {"unequal": unequal, "furthest": far, "passed": passed}


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


def blocks(part: Part) -> Case:
    """Copies on the device, and to the host's memory and back."""
    storage = torch.randn(50, 2, 2, 16, 2, 64)
    copied, pairs = storage.clone(), torch.randperm(50)[:20].view(10, 2)
    triton_blocks.copy_blocks(copied, copied, pairs)
    expected = storage.clone()
    reference_cache.copy_blocks(expected, expected, pairs)
    chosen, onto = pairs[:, 0], pairs[:, 1]
    on_gpu = part.device.type == "cuda"
    room = torch.empty((10, *storage.shape[1:]), device="cpu", pin_memory=on_gpu)
    triton_blocks.blocks_to_host(storage, chosen, room)
    part.synchronize()
    found_there, returned = room.to(storage.device, copy=True), storage.clone()
    triton_blocks.blocks_from_host(room, returned, onto)
    return worst((copied, expected), (found_there, storage[chosen]), (returned, expected))


def steps(part: Part) -> Case:
    """A step's inputs, with prompts and without, and what becomes of the tables after it."""
    pairs = []
    for longest in (1, 700):
        lines = torch.randperm(64).int()
        lines[3] = -1
        counts = torch.randint(1, longest + 1, (64,)).where(lines >= 0, 1)
        computed = torch.randint(0, 500, (64,)).int()
        known = computed.clone()
        known[lines[lines >= 0].long()] += counts[lines >= 0].int()
        known += torch.randint(0, 2, (64,)).int()  # some rows have not caught up
        theirs = RowTables(
            tokens=torch.randint(1, 1000, (64, 2048)).int(),
            num_known=known,
            num_computed=computed,
            blocks=torch.randint(1, 999, (64, 128)).int(),
        )
        ours = RowTables(*(column.clone() for column in columns_of(theirs)))
        starts = torch.cat([torch.zeros(1), counts.cumsum(0)]).int()
        with poisoned():
            found = triton_step.step_inputs(ours, lines, starts, int(starts[-1]), 16)
        expected = reference_cache.step_inputs(theirs, lines, starts, int(starts[-1]), 16)
        names = ("token_ids", "positions", "slots", "context_lens", "block_tables")
        pairs += [(getattr(found, name), getattr(expected, name)) for name in names]
        drawn = torch.randint(1, 1000, (64,))
        triton_step.advance(ours, lines, starts, drawn)
        reference_cache.advance(theirs, lines, starts, drawn)
        pairs += zip(columns_of(ours), columns_of(theirs), strict=True)
    return worst(*pairs)


def columns_of(tables: RowTables) -> tuple[torch.Tensor, ...]:
    return tables.tokens, tables.num_known, tables.num_computed, tables.blocks


def main() -> None:
    part = Part.from_command_line()
    with part.device:
        for dtype in wide_and_narrow(part):
            kind = str(dtype).removeprefix("torch.")
            part.attempt(f"rotation {kind}", partial(rotation, part, dtype))
            part.attempt(f"elementwise {kind}", partial(elementwise, part, dtype))
            part.attempt(f"experts {kind}", partial(experts, part, dtype))
        if part.has_eight_bits:
            part.attempt("rotation into eight bits", partial(rotation_to_eight_bits, part))
        part.attempt("blocks", lambda: blocks(part))
        part.attempt("step inputs, advance", lambda: steps(part))


if __name__ == "__main__":
    main()
