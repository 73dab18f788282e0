"""The least time that this machine needs for a work. Knows a model's shape and two limits.

Each step takes as long as its multiplications or its reading of weights, keys and values,
whichever is longer; everything else is free. Prompts are one step, as large as need be, and all
rows start at once. No engine gets there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from work import Work

_CACHE_BYTES = 2  # keys and values are bf16


@dataclass(frozen=True, slots=True)
class Number:
    """A type of number that weights are kept in.

    Attributes:
        size: bytes.
        operations_per_s: of all cores; a multiplication and an addition are two.
    """

    size: int
    operations_per_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can do with all its cores: read memory, and multiply.

    Attributes:
        bytes_per_s: from memory.
        layers, head: what the layers' matrices and the output matrix are kept in.
    """

    bytes_per_s: float
    layers: Number
    head: Number


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder as a set of matrices.

    Attributes:
        trunk: weights of all layers' matrices, each used once per token.
        head: weights of the output matrix, used once per token that is drawn.
        cache: elements of all layers' keys and values, per token of context.
        query: elements of all layers' queries per token.
    """

    trunk: int
    head: int
    cache: int
    query: int

    @classmethod
    def of(cls, checkpoint: Path) -> "Shape":
        """Read a checkpoint's config.json."""
        config = json.loads((checkpoint / "config.json").read_text())
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        kv_size = hidden // heads * config["num_key_value_heads"]
        layers = config["num_hidden_layers"]
        attention = hidden * (hidden + 2 * kv_size) + hidden * hidden
        layer = attention + 3 * hidden * config["intermediate_size"]
        return cls(
            trunk=layers * layer,
            head=hidden * config["vocab_size"],
            cache=layers * 2 * kv_size,
            query=layers * hidden,
        )


def least_seconds(work: Work, shape: Shape, limits: Limits) -> float:
    """Return the floor of a work's time."""

    def step(trunk_tokens: int, head_tokens: int, context: int, attended: int) -> float:
        in_layers_s = 2 * shape.trunk * trunk_tokens / limits.layers.operations_per_s
        in_head = 2 * shape.head * head_tokens + 4 * shape.query * attended
        read = shape.trunk * limits.layers.size + shape.head * limits.head.size
        read += _CACHE_BYTES * shape.cache * context
        return max(in_layers_s + in_head / limits.head.operations_per_s, read / limits.bytes_per_s)

    sizes = [len(prompt) for prompt in work.prompts]
    attended = sum(size * (size + 1) // 2 for size in sizes)
    total_s = step(sum(sizes), len(sizes), 0, attended)
    for place in range(1, max(work.lengths)):
        alive = [size for size, length in zip(sizes, work.lengths, strict=True) if length > place]
        context = sum(alive) + place * len(alive)
        total_s += step(len(alive), len(alive), context, context)
    return total_s
