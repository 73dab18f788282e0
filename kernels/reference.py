"""Every operation of the decoder in plain PyTorch: the specification the fast kernels are held to.

Knows tensors and the cache layout. Refuses to know models, devices and speed.

A layer's key cache and value cache have the logical shape [num_blocks, block_size, num_kv_heads,
head_dim]. Their strides are the allocator's choice, so a kernel may have its own physical order.
They are of the queries' type, or of eight-bit floats that are numbers divided by a scale.
Token p of a row lies in block `block_table[p // block_size]` at offset `p % block_size`; its slot
is block * block_size + offset. Sums are taken in float32 whatever the tensors' type.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from .prefix_groups import PrefixGroups

FP8_LARGEST = 448.0  # of float8_e4m3fn, which has no infinity: what is larger would be no number
_LARGEST_INT8 = 127
_NEGLIGIBLE = 1e-30  # 127 divided by less would overflow

Projection = Callable[[torch.Tensor], torch.Tensor]
# Takes rows sorted by expert, and where the rows of each expert begin.
GroupedProjection = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, each [num_blocks, block_size, num_kv_heads, head_dim].

    Attributes:
        key_scale: what a number of `key` stands for: times this; 1 unless they are eight-bit.
        value_scale: the same for `value`.
    """

    key: torch.Tensor
    value: torch.Tensor
    key_scale: float = field(default=1.0, kw_only=True)
    value_scale: float = field(default=1.0, kw_only=True)


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """RMS norms of the query and the key, with float32 weights.

    Weights [head_dim] norm each head by itself (Qwen3, Gemma 3), weights [heads * head_dim] all
    heads of a token together (OLMo 2).
    """

    query: torch.Tensor
    key: torch.Tensor
    eps: float


def padded_head_dim(head_dim: int) -> int:
    """Return the size that heads of `head_dim` are to have in queries, cache and weights.

    A kernel may ask for zeros at the end of both halves of each head; here nothing is needed.
    """
    return head_dim


def projection(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Projection:
    """Return x [T, K] -> x @ weight.T + bias [T, N]; weight is [N, K].

    `out_dtype` may ask for float32 where the weight is narrower. Kernels of our own then return
    the sums as they are; PyTorch's product, here, rounds them to the weight's type first.
    """

    def project(x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weight, bias).to(out_dtype or weight.dtype)

    return project


def grouped_projection(weights: torch.Tensor) -> GroupedProjection:
    """Return x [N, K], starts int32 [E + 1] -> [N, M]; weights are those of E experts, [E, M, K].

    Rows starts[e] to starts[e + 1] are multiplied by weights[e].T. Operations that would rather
    have a projection for each expert have None in place of this.
    """

    def project(x: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        shares = x.split(starts.diff().tolist())
        return torch.cat([F.linear(*pair) for pair in zip(shares, weights, strict=True)])

    return project


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x [R, N] as int8 in [-127, 127] and float32 scales [R]: x is about int8 * scale.

    A row's largest number becomes 127 or -127, ties go to even. A row with a number that is none
    has NaN for a scale; one too small for a factor that float32 can hold is zero.
    """
    wide = x.float()
    largest = wide.abs().amax(dim=1)
    most = torch.full_like(largest, _LARGEST_INT8)  # a number over a tensor would round twice
    factor = torch.where(largest < _NEGLIGIBLE, 0.0, most / largest)
    scales = torch.where(largest < _NEGLIGIBLE, 0.0, largest / most)
    sound = largest.isfinite()
    numbers = (wide * factor[:, None]).round().where(sound[:, None], 0.0)
    return numbers.to(torch.int8), scales.where(sound, torch.nan)


def quantized_projection(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Projection:
    """Return what `projection` does, nearly, with weight and x in 8-bit whole numbers.

    Each output of the weight has a scale, fixed here, and each row of x, found at each call. Sums
    of products are exact.
    """
    numbers, scales = quantize_rows(weight)
    offset = bias.float() if bias is not None else 0.0

    def project(x: torch.Tensor) -> torch.Tensor:
        x_numbers, x_scales = quantize_rows(x)
        sums = x_numbers.double() @ numbers.double().T  # as exact as integers, and has a fast path
        return (sums.float() * (x_scales[:, None] * scales) + offset).to(weight.dtype)

    return project


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale each last-dimension vector of x to unit root mean square, then by weight.

    Weights of norms are float32 whatever x is: Gemma's are 1 + w, which bfloat16 would blunt.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide * scale * weight.float()).to(x.dtype)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """Add x to the residual stream in place and return the normed sum; all [T, hidden]."""
    residual += x
    return rms_norm(residual, weight, eps)


def rotary_table(
    inverse_frequencies: torch.Tensor, num_positions: int, scale: float = 1.0
) -> torch.Tensor:
    """Return float32 [num_positions, head_dim]: cosines in the first half, sines in the second."""
    positions = torch.arange(num_positions, dtype=torch.float32, device=inverse_frequencies.device)
    angles = torch.outer(positions, inverse_frequencies.float())
    return torch.cat([angles.cos(), angles.sin()], dim=-1) * scale


def apply_rotary(x: torch.Tensor, positions: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rotate x [T, heads, head_dim] by its positions (RoPE, the two-halves form of GPT-NeoX)."""
    cosines, sines = table[positions].unsqueeze(1).chunk(2, dim=-1)
    first, second = x.float().chunk(2, dim=-1)
    turned = [first * cosines - second * sines, second * cosines + first * sines]
    return torch.cat(turned, dim=-1).to(x.dtype)


def write_kv(
    key: torch.Tensor, value: torch.Tensor, cache: LayerCache, slots: torch.Tensor
) -> None:
    """Put key and value [T, kv_heads, head_dim] into their slots; slot -1 means nowhere.

    In a cache of eight-bit floats, numbers past the largest become the largest. What is no number
    stays none, for its row must fail.
    """
    kept = slots >= 0
    block_size = cache.key.shape[1]
    blocks = torch.div(slots[kept], block_size, rounding_mode="floor")
    offsets = slots[kept] % block_size
    for numbers, target, scale in (
        (key, cache.key, cache.key_scale),
        (value, cache.value, cache.value_scale),
    ):
        narrow = _narrowed(numbers[kept], target.dtype, scale)
        _bytes_or_numbers(target)[blocks, offsets] = _bytes_or_numbers(narrow)


def _narrowed(numbers: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    if dtype.itemsize > 1:
        return numbers
    return (numbers.float() * (1.0 / scale)).clamp(-FP8_LARGEST, FP8_LARGEST).to(dtype)


def _read(numbers: torch.Tensor, blocks: torch.Tensor, scale: float) -> torch.Tensor:
    """Return what lies in these blocks as float32 [N * block_size, kv_heads, head_dim]."""
    found = _bytes_or_numbers(numbers)[blocks].view(numbers.dtype).flatten(0, 1).float()
    return found * scale if numbers.itemsize == 1 else found


def _bytes_or_numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return eight-bit floats as bytes, for PyTorch indexes no such floats; others as they are."""
    return tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor


def rotate_and_cache(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    table: torch.Tensor,
    cache: LayerCache,
    slots: torch.Tensor,
    head_norm: HeadNorm | None = None,
) -> torch.Tensor:
    """Norm and rotate the heads in qkv [T, (H + 2 KV) * D], cache keys and values, return queries.

    Returns:
        The rotated queries [T, H, D].
    """
    num_kv_heads, head_dim = cache.key.shape[2:]
    heads = qkv.view(qkv.shape[0], -1, head_dim)
    num_heads = heads.shape[1] - 2 * num_kv_heads
    query, key, value = heads.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    if head_norm is not None:
        query = _norm_heads(query, head_norm.query, head_norm.eps)
        key = _norm_heads(key, head_norm.key, head_norm.eps)
    write_kv(apply_rotary(key, positions, table), value, cache, slots)
    return apply_rotary(query, positions, table)


def _norm_heads(heads: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    normed_size = weight.shape[0]  # of one head, or of all of them
    return rms_norm(heads.reshape(-1, normed_size), weight, eps).view(heads.shape)


def paged_attention(
    query: torch.Tensor,
    cache: LayerCache,
    query_start: torch.Tensor,
    context_lens: torch.Tensor,
    block_tables: torch.Tensor,
    scale: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    groups: PrefixGroups | None = None,
) -> torch.Tensor:
    """Causal attention of each row's newest tokens over all its cached ones.

    Args:
        query: [T, H, D], the rows' tokens one row after the other.
        cache: this layer's keys and values, the step's own already written.
        query_start: int32 [R + 1], where each row's queries begin, and the end.
        context_lens: int32 [R], cached tokens per row; its queries are the last of them.
        block_tables: int32 [R, max_blocks].
        scale: factor on the scores.
        sliding_window: how many tokens, itself included, a token sees; None for all.
        softcap: what the scaled scores stay below, see `bound`; None for no limit.
        groups: which rows share keys, if it is known: a hint that changes no result. Where it is
            taken, a group's keys are read where its first member has them.

    Returns:
        [T, H, D].
    """
    output = torch.zeros_like(query)
    block_size, num_kv_heads = cache.key.shape[1:3]
    if groups is not None:
        block_tables = groups.spread(block_tables, block_size)
    group = query.shape[1] // num_kv_heads
    starts, lengths = query_start.tolist(), context_lens.tolist()
    for row, length in enumerate(lengths):
        begin, end = starts[row], starts[row + 1]
        if begin == end:
            continue
        blocks = block_tables[row, : -(-length // block_size)].long()
        # Only the row's own tokens are read: what lies in unused slots may be anything, NaN too.
        keys = _read(cache.key, blocks, cache.key_scale)[:length]
        values = _read(cache.value, blocks, cache.value_scale)[:length]
        keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", query[begin:end].float(), keys) * scale
        if softcap is not None:
            scores = bound(scores, softcap)
        place = torch.arange(length - (end - begin), length, device=query.device).unsqueeze(1)
        seen = torch.arange(length, device=query.device).unsqueeze(0)
        hidden = seen > place
        if sliding_window is not None:
            hidden |= seen <= place - sliding_window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        output[begin:end] = torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype)
    return output


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up for gate_up [T, 2 * intermediate], gate in the first half."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return (F.silu(gate) * up).to(gate_up.dtype)


def gelu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """Return gelu(gate) * up as `silu_and_mul` does; GELU by its tanh formula (Gemma)."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return (F.gelu(gate, approximate="tanh") * up).to(gate_up.dtype)


def bound(x: torch.Tensor, limit: float) -> torch.Tensor:
    """Replace float32 x [T, N] by limit * tanh(x / limit), and return it.

    That is x where x is small, and never over the limit. Gemma 2 calls it soft-capping.
    """
    return x.div_(limit).tanh_().mul_(limit)
