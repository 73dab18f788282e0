"""How a device's memory is shared out: weights, the largest step, and what is left for the cache.

On a GPU the engine measures all this when it starts (`engine/memory_profile.py`), and its log tells
the cache's size; here it is estimated from the model's sizes alone. On a CPU the rule is the
engine's own: a quarter of what is free, at most 4 GiB.
"""

from dataclasses import dataclass

from .hardware import MIB, Hardware
from .planner_roofline import Roofline

GIB = 1024**3
BLOCK_TOKENS = 16
_SPARE_SHARE = 0.02  # of a GPU, for what falls between the allocator's pieces
_DRIVER_BYTES = 512 * MIB  # of CUDA's context and its libraries
_GRAPH_BYTES = 24 * MIB  # for three graphs of one number of rows; there is one for each 8 rows
_MAX_GRAPH_ROWS = 1024
_PROMPT_LOGITS = 1024  # rows of logits in the largest step, beside those of its rows
_LOGIT_BYTES, _SAMPLER_BYTES = 6, 16  # of one logit, and of one that is sampled with everything
_CPU_SHARE, _CPU_MOST_BYTES = 4, 4 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one device's memory goes to, in bytes.

    Attributes:
        token_bytes: of one token's keys and values.
        step_bytes: what the largest step takes at its peak.
        other_bytes: of captured graphs, the driver, and what is kept spare.
        cache_bytes: what is left for keys and values; below 0 if that much is missing.
    """

    total_bytes: int
    weight_bytes: int
    step_bytes: int
    other_bytes: int
    cache_bytes: int
    token_bytes: int

    @property
    def cache_tokens(self) -> int:
        """Tokens that the cache holds, in whole blocks but the one that is kept empty."""
        blocks = self.cache_bytes // (self.token_bytes * BLOCK_TOKENS)
        return max(0, blocks - 1) * BLOCK_TOKENS

    def max_rows(self, row_tokens: int, shared_tokens: int = 0) -> int:
        """Return how many rows fit, each at its full length; a common prefix is kept once."""
        own_tokens = blocks_of(row_tokens - shared_tokens) * BLOCK_TOKENS
        return max(0, self.cache_tokens - shared_tokens) // own_tokens

    def missing_bytes(self, row_tokens: int) -> int:
        """Return how many bytes are missing for a single row of that length; 0 if it fits."""
        needed = (blocks_of(row_tokens) + 1) * BLOCK_TOKENS * self.token_bytes
        return max(0, needed - self.cache_bytes)


def blocks_of(num_tokens: int) -> int:
    """Return the blocks that so many tokens take."""
    return -(-num_tokens // BLOCK_TOKENS)


def share_out(hardware: Hardware, roofline: Roofline, max_rows: int, step_tokens: int) -> Room:
    """Share out a device's memory for steps of at most so many rows and tokens."""
    total, weights = hardware.memory_bytes, int(roofline.weight_bytes)
    if hardware.is_gpu:
        step = _step_bytes(roofline, max_rows, step_tokens)
        graphs = _GRAPH_BYTES * (4 + min(max_rows, _MAX_GRAPH_ROWS) // 8)
        other = graphs + _DRIVER_BYTES + int(_SPARE_SHARE * total)
        cache = total - weights - step - other
    else:
        step = other = 0
        free = total - weights
        cache = min(free // _CPU_SHARE, _CPU_MOST_BYTES) if free > 0 else free
    return Room(
        total_bytes=total,
        weight_bytes=weights,
        step_bytes=step,
        other_bytes=other,
        cache_bytes=cache,
        token_bytes=roofline.token_bytes,
    )


def fitting_rows(
    hardware: Hardware,
    roofline: Roofline,
    *,
    row_tokens: int,
    shared_tokens: int,
    step_tokens: int,
    most: int,
) -> int:
    """Return how many rows fit, up to `most`, their own part of the largest step counted in."""
    low, high = 0, most + 1  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        room = share_out(hardware, roofline, middle, step_tokens)
        fits = room.max_rows(row_tokens, shared_tokens) >= middle
        low, high = (middle, high) if fits else (low, middle)
    return low


def _step_bytes(roofline: Roofline, max_rows: int, step_tokens: int) -> int:
    """Estimate the peak of the largest step: activations of its tokens, logits, sampling."""
    shape = roofline.shape
    inner = max(
        mlp.expert_weights * mlp.num_experts_per_token // (3 * shape.hidden_size)
        for mlp in shape.mlps
    )
    queries = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    activations = step_tokens * (3 * inner + 4 * shape.hidden_size + queries)
    logits = min(step_tokens, max_rows + _PROMPT_LOGITS) * _LOGIT_BYTES
    sampled = max_rows * _SAMPLER_BYTES
    bytes_of_logits = (logits + sampled) * shape.vocab_size
    return activations * roofline.numbers.others.num_bytes + bytes_of_logits
