"""Launches to compile: shapes of Qwen3-0.6B, Qwen2.5-0.5B, Llama-3.1-8B and Gemma 2, bfloat16."""

from collections.abc import Callable
from typing import Any

import torch

from penstock.kernels import (
    triton_blocks,
    triton_elementwise,
    triton_experts,
    triton_filters,
    triton_history,
    triton_logits,
    triton_logprobs,
    triton_rotary,
    triton_sampling,
    triton_step,
)
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.reference_logits import History, Penalties, Rules
from penstock.kernels.reference_sampling import Chances, Kept
from penstock.kernels.triton_cascade import cascade_attention
from penstock.kernels.triton_decode import decode_attention
from penstock.kernels.triton_prefill import prefill_attention
from tests.kernels.triton_cases import no_groups

BF16, FP8, FP32 = torch.bfloat16, torch.float8_e4m3fn, torch.float32
Launch = Callable[[], object]
ROWS, VOCAB = 256, 151936


def integers(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def cache(kv_heads: int, dim: int, dtype: torch.dtype = BF16) -> LayerCache:
    storage = torch.empty(2, 2, 2, 16, kv_heads, dim, dtype=dtype)
    return LayerCache(storage[:, 1, 0], storage[:, 1, 1])


def attention(
    function: Callable[..., Any],
    heads: int,
    kv_heads: int,
    dim: int,
    *,
    tokens: int = ROWS,
    rows: int = ROWS,
    dtype: torch.dtype = BF16,
    **options: Any,
) -> Launch:
    return lambda: function(
        query=torch.empty(tokens, heads, dim, dtype=BF16),
        cache=cache(kv_heads, dim, dtype),
        query_start=integers(rows + 1),
        context_lens=integers(rows),
        block_tables=integers(rows, 64),
        scale=0.1,
        **options,
    )


def rotation(heads: int, kv_heads: int, dim: int, dtype: torch.dtype, normed: bool) -> Launch:
    places = integers(ROWS, dtype=torch.int64)
    norm = HeadNorm(torch.ones(dim), torch.ones(dim), 1e-6) if normed else None
    qkv = torch.empty(ROWS, (heads + 2 * kv_heads) * dim, dtype=BF16)
    table = torch.empty(64, dim)
    return lambda: triton_rotary.rotate_and_cache(
        qkv, places, table, cache(kv_heads, dim, dtype), places, norm
    )


def experts(rows: int) -> Launch:
    """Gate and up of Qwen3-30B-A3B: 128 experts of 768."""
    x = torch.empty(rows, 2048, dtype=BF16, device="meta")
    weights = torch.empty(128, 1536, 2048, dtype=BF16, device="meta")
    return lambda: triton_experts.grouped_projection(weights)(x, integers(129))


def norms(hidden: int) -> Launch:
    x, weight = torch.empty(ROWS, hidden, dtype=BF16), torch.empty(hidden)
    return lambda: triton_elementwise.add_rms_norm(x, x, weight, 1e-6)


LOGITS, ONES = torch.empty(ROWS, VOCAB), torch.ones(ROWS)
GROUPS = no_groups(ROWS, torch.device("cpu"))
KEYS, IDS = integers(ROWS, dtype=torch.int64), integers(ROWS)
# Parameters lie side by side, a line of 72 bytes for each row.
PARAMETERS = torch.zeros(ROWS, 9, dtype=torch.int64)
INTEGER, NUMBER = PARAMETERS.view(torch.int32)[:, 3], PARAMETERS.view(FP32)[:, 2]
CHANCES = Chances(NUMBER, PARAMETERS[:, 0], INTEGER, NUMBER, NUMBER)
PENALTIES = Penalties(NUMBER, NUMBER, NUMBER, NUMBER)
HISTORY = History(integers(ROWS, VOCAB), INTEGER, INTEGER, INTEGER)
RULES = Rules(
    bias_ids=integers(ROWS, 1024),
    biases=torch.zeros(ROWS, 1024),
    num_biases=INTEGER,
    allowed=integers(ROWS, VOCAB // 32),
    is_limited=INTEGER,
    endings=integers(ROWS, 64),
    num_endings=INTEGER,
    min_tokens=INTEGER,
)
TABLES = RowTables(integers(ROWS, 4096), IDS, IDS, integers(ROWS, 256))

ATTENTION: dict[str, Launch] = {
    "decode Qwen3-0.6B": attention(decode_attention, 16, 8, 128),
    "decode Qwen2.5-0.5B": attention(decode_attention, 14, 2, 64),
    "decode Gemma 2": attention(decode_attention, 8, 4, 256, softcap=50.0, sliding_window=4096),
    "prefill Llama-3.1-8B": attention(prefill_attention, 32, 8, 128, tokens=8192, rows=16),
    "prefill of short rows": attention(prefill_attention, 32, 8, 128, tokens=2048),
    "prefill Gemma 2": attention(
        prefill_attention, 8, 4, 256, tokens=8192, rows=16, softcap=50.0, sliding_window=4096
    ),
    "cascade Qwen3-0.6B": attention(cascade_attention, 16, 8, 128, groups=GROUPS),
    "cascade Qwen2.5-0.5B": attention(cascade_attention, 14, 2, 64, groups=GROUPS),
}
OTHERS: dict[str, Launch] = {
    "experts, few rows": experts(rows=2048),
    "experts, many rows": experts(rows=65536),
    "rotation Qwen3-0.6B": rotation(16, 8, 128, BF16, normed=True),
    "rotation Llama-3.1-8B": rotation(32, 8, 128, BF16, normed=False),
    "norm 1024": norms(1024),
    "norm 4096": norms(4096),
    "silu": lambda: triton_elementwise.silu_and_mul(torch.empty(ROWS, 6144, dtype=BF16)),
    "gelu": lambda: triton_elementwise.gelu_and_mul(torch.empty(ROWS, 6144, dtype=BF16)),
    "sample": lambda: triton_sampling.sample(LOGITS, IDS, IDS, CHANCES, Kept(ONES, IDS)),
    "filters": lambda: triton_filters.keep_likeliest(LOGITS, IDS, CHANCES),
    "penalties": lambda: triton_history.penalise(LOGITS, IDS, HISTORY, PENALTIES),
    "record": lambda: triton_history.record(HISTORY, IDS, TABLES),
    "biases": lambda: triton_logits.adjust(LOGITS, IDS, IDS, RULES),
    "bitmask": lambda: triton_logits.allow(LOGITS, IDS, RULES),
    "logprobs": lambda: triton_logprobs.top_logprobs(LOGITS, IDS, KEYS, INTEGER, 20),
    "copy": lambda: triton_blocks.copy_blocks(
        torch.empty(4, 65536), torch.empty(4, 65536), integers(2, 2, dtype=torch.int64)
    ),
    "step": lambda: triton_step.step_inputs(TABLES, IDS, integers(ROWS + 1), ROWS, 16),
    "advance": lambda: triton_step.advance(TABLES, IDS, integers(ROWS + 1), KEYS),
}
# Hopper reads eight-bit floats by itself; Ampere has no instruction for them.
EIGHT_BITS: dict[str, Launch] = {
    "decode, cache in fp8": attention(decode_attention, 16, 8, 128, dtype=FP8),
    "prefill, cache in fp8": attention(
        prefill_attention, 32, 8, 128, tokens=8192, rows=16, dtype=FP8
    ),
    "cascade, cache in fp8": attention(cascade_attention, 16, 8, 128, dtype=FP8, groups=GROUPS),
    "rotation, cache in fp8": rotation(16, 8, 128, FP8, normed=True),
}
FAMILIES = {"attention": ATTENTION, "others": OTHERS, "eight_bits": EIGHT_BITS}
