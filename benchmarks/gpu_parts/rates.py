"""How fast each kernel moves bytes or multiplies, against copies and products of the same run."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import triton
from groups import grouped
from part import Part

from penstock.kernels import (
    triton_elementwise,
    triton_experts,
    triton_filters,
    triton_logprobs,
    triton_rotary,
    triton_sampling,
)
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.reference_sampling import Chances
from penstock.kernels.triton_cascade import cascade_attention
from penstock.kernels.triton_decode import decode_attention
from penstock.kernels.triton_prefill import prefill_attention

ROUNDS = 15
COMPILE = "compile"  # the choice to do everything once, so that kernels are there later
HEADS = {"Qwen3-0.6B": (16, 8, 128), "Qwen2.5-0.5B": (14, 2, 64), "Llama-3.1-8B": (32, 8, 128)}


def seconds(part: Part, action: Callable[[], object]) -> float:
    """Return the median time of an action whose inputs are in no cache."""
    if part.device.type != "cuda" or part.choice == COMPILE:
        action()
        return 1.0
    flushed = torch.empty(2**30, dtype=torch.uint8)
    for _ in range(3):
        action()
    times = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(2):  # for so long that the host has started all of the action meanwhile
            flushed.zero_()
        begin.record()
        action()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return sorted(times)[ROUNDS // 2]


def copy_rate(part: Part) -> float:
    size = 2**16 if part.tiny else 2**30
    source, target = torch.zeros(2, size, dtype=torch.uint8)
    return 2 * size / seconds(part, lambda: target.copy_(source))


def product_rate(part: Part) -> float:
    size = 64 if part.tiny else 8192
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16)
    return 2 * size**3 / seconds(part, lambda: left @ right)


def paged(part: Part, rows: int, tokens: int, context: int, heads: int, kv: int, dim: int) -> Any:
    blocks = rows * context // 16
    dtype = torch.float32 if part.tiny else torch.bfloat16
    cache = LayerCache(*torch.randn(2, 1 + blocks, 16, kv, dim, dtype=dtype))
    return {
        "query": torch.randn(rows * tokens, heads, dim, dtype=dtype),
        "cache": cache,
        "query_start": torch.arange(0, rows * tokens + 1, tokens).int(),
        "context_lens": torch.full((rows,), context).int(),
        "block_tables": 1 + torch.randperm(blocks).view(rows, -1).int(),
        "scale": dim**-0.5,
    }


def moved(part: Part, limit: float, num_bytes: float, action: Callable[[], object]) -> Any:
    took = seconds(part, action)
    rate = num_bytes / took
    return {"us": took * 1e6, "GB_per_s": rate / 1e9, "share_of_copy": rate / limit}


def multiplied(part: Part, limit: float, operations: float, action: Callable[[], object]) -> Any:
    took = seconds(part, action)
    rate = operations / took
    return {"us": took * 1e6, "TFLOP_per_s": rate / 1e12, "share_of_product": rate / limit}


def decode(part: Part, limit: float, heads: int, kv: int, dim: int, rows: int, context: int) -> Any:
    if part.tiny:
        heads, kv, dim, rows, context = 2, 1, 16, 3, 272
    case = paged(part, rows, 1, context, heads, kv, dim)
    return moved(part, limit, 4 * rows * context * kv * dim, lambda: decode_attention(**case))


def prefill(part: Part, limit: float, heads: int, kv: int, dim: int, rows: int, size: int) -> Any:
    if part.tiny:
        heads, kv, dim, rows, size = 2, 1, 16, 2, 48
    case = paged(part, rows, size, size, heads, kv, dim)
    operations = 4 * rows * size * size / 2 * heads * dim
    return multiplied(part, limit, operations, lambda: prefill_attention(**case))


def cascade(part: Part, limit: float) -> Any:
    """256 rows of 1,024 tokens of which they share 768; bytes are those of plain decoding."""
    rows, context, shared = (3, 272, 256) if part.tiny else (256, 1024, 768)
    heads, kv, dim = (2, 1, 16) if part.tiny else (16, 8, 128)
    case = paged(part, rows, 1, context, heads, kv, dim)
    case["block_tables"][:, : shared // 16] = case["block_tables"][0, : shared // 16].clone()
    groups = grouped(case["block_tables"], [context] * rows)
    return moved(
        part, limit, 4 * rows * context * kv * dim, lambda: cascade_attention(groups=groups, **case)
    )


def layers(part: Part, limit: float) -> dict[str, Any]:
    rows, dtype = (3, torch.float32) if part.tiny else (8192, torch.bfloat16)
    size = 64 if part.tiny else 4096
    x, residual = torch.randn(2, rows, size, dtype=dtype)
    gate_up, weight = torch.randn(rows, 2 * size, dtype=dtype), torch.ones(size)
    width = x.itemsize
    norm = moved(
        part,
        limit,
        4 * rows * size * width,
        lambda: triton_elementwise.add_rms_norm(x, residual, weight, 1e-6),
    )
    gate = moved(
        part, limit, 3 * rows * size * width, lambda: triton_elementwise.silu_and_mul(gate_up)
    )
    heads, kv, dim = (2, 1, 16) if part.tiny else (16, 8, 128)
    qkv = torch.randn(rows, (heads + 2 * kv) * dim, dtype=dtype)
    cache = LayerCache(*torch.zeros(2, 1 + rows // 16 + 1, 16, kv, dim, dtype=dtype))
    places, ones = torch.arange(rows), torch.ones(dim)
    rotate = moved(
        part,
        limit,
        2 * qkv.nbytes,
        lambda: triton_rotary.rotate_and_cache(
            qkv, places, torch.ones(rows, dim), cache, places, HeadNorm(ones, ones, 1e-6)
        ),
    )
    named = {"add_norm": norm, "silu": gate, "rotate": rotate}
    return {f"{name}_share_of_copy": found["share_of_copy"] for name, found in named.items()}


def experts(part: Part, limit: float, tokens: int) -> Any:
    """Gate and up of Qwen3-30B-A3B: 8 of 128 experts of 768 for each token."""
    num_experts, inner, hidden = (4, 48, 40) if part.tiny else (128, 1536, 2048)
    rows, dtype = 8 * tokens, torch.float32 if part.tiny else torch.bfloat16
    weights = torch.randn(num_experts, inner, hidden, dtype=dtype)
    x = torch.randn(rows, hidden, dtype=dtype)
    starts = (torch.arange(num_experts + 1) * rows // num_experts).int()
    project = triton_experts.grouped_projection(weights)
    num_bytes = weights.nbytes + x.nbytes + rows * inner * x.itemsize
    found = moved(part, limit, num_bytes, lambda: project(x, starts))
    return found | {"TFLOP_per_s": 2 * rows * inner * hidden / found["us"] / 1e6}


def sampling(part: Part, limit: float) -> dict[str, Any]:
    rows, vocab = (3, 5000) if part.tiny else (256, 151936)
    logits, ones = 3 * torch.randn(rows, vocab), torch.ones(rows)
    keys = torch.arange(rows)
    lines, few = keys.int(), (ones * 50).int()
    chances = Chances(ones, keys, few, 0.9 * ones, 0.0 * ones)
    drawn = moved(
        part, limit, logits.nbytes, lambda: triton_sampling.sample(logits, lines, lines, chances)
    )
    filtered = seconds(part, lambda: triton_filters.keep_likeliest(logits, lines, chances))
    twenty = torch.full((rows,), 20).int()
    logged = seconds(part, lambda: triton_logprobs.top_logprobs(logits, lines, keys, twenty, 20))
    sorted_s = seconds(part, lambda: torch.sort(logits, dim=-1))
    return {
        **drawn,
        "top_k_and_p_us": filtered * 1e6,
        "top_20_logprobs_us": logged * 1e6,
        "torch_sort_us": sorted_s * 1e6,
    }


def main() -> None:
    part = Part.from_command_line()
    limits = {"bytes": 1.0, "operations": 1.0}

    def attempt(name: str, measure: Callable[[], dict[str, Any]]) -> None:
        if part.choice == COMPILE:
            part.attempt(name, lambda: measure() and {})
        else:
            part.attempt(name, measure)

    def measure_limits() -> dict[str, float]:
        limits["bytes"], limits["operations"] = copy_rate(part), product_rate(part)
        return {"bytes_per_s": limits["bytes"], "operations_per_s": limits["operations"]}

    with part.device:
        attempt("limits", measure_limits)
        gpu = {"gpu": torch.cuda.get_device_name()} if part.device.type == "cuda" else {}
        versions = {"torch": torch.__version__, "triton": triton.__version__}
        part.attempt("machine", lambda: {**gpu, **versions})
        for name, sizes in HEADS.items():
            for rows, context in ((256, 1024), (16, 4096), (1, 8192)):
                attempt(
                    f"decode {name} {rows} x {context}",
                    partial(decode, part, limits["bytes"], *sizes, rows, context),
                )
            for rows, size in ((8, 1024), (4, 4096), (1, 8192)):
                attempt(
                    f"prefill {name} {rows} x {size}",
                    partial(prefill, part, limits["operations"], *sizes, rows, size),
                )
        attempt("cascade 256 x 1024, 768 shared", lambda: cascade(part, limits["bytes"]))
        attempt("layers, 8192 tokens", lambda: layers(part, limits["bytes"]))
        for tokens in (2, 3) if part.tiny else (256, 8192):
            attempt(f"experts, {tokens} tokens", partial(experts, part, limits["bytes"], tokens))
        attempt("sampling, 256 rows", lambda: sampling(part, limits["bytes"]))


if __name__ == "__main__":
    main()
