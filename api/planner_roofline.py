"""The least time that a step can take: its bytes over the memory's speed, its operations over the
products'. Knows a model's shape and two speeds. Refuses to know what an engine adds to it.

    decode    max(weights read, products) + keys and values read + logits
    prefill   max(weights read, products of matrices and of attention)

A step reads each weight once, whatever its rows; of experts only those that some token has chosen.
Products and reading of weights overlap, everything else stands in line: so simple a roofline is
one that good engines reach three quarters of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .hardware import Hardware, NumberType
from .planner_shape import ModelShape

_LOGIT_BYTES = 8  # of one: written in 16 bits and read, then once more in 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a model is kept in.

    Attributes:
        layers: the layers' matrices.
        others: embeddings, head, and activations.
        cache_bytes: of one number of a key or value.
        head_dim: numbers of a head in the cache, where kernels keep more than the model has; 0 for
            the model's own.
    """

    layers: NumberType
    others: NumberType
    cache_bytes: int = 2
    head_dim: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step needs, and how long that takes at least.

    Attributes:
        weight_bytes, cache_bytes, logit_bytes: what is read.
        operations: of products; a multiplication and an addition are two.
        seconds: the least.
        bound_by: "weights", "products" or "cache": what most of the time goes to.
    """

    weight_bytes: float
    cache_bytes: float
    logit_bytes: float
    operations: float
    seconds: float
    bound_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """One model on one device.

    Attributes:
        bytes_per_s: that memory is read at.
        layer_operations_per_s, other_operations_per_s: of products with the layers' matrices, and
            of those with the head and of attention.
    """

    shape: ModelShape
    numbers: Numbers
    bytes_per_s: float
    layer_operations_per_s: float
    other_operations_per_s: float

    @classmethod
    def on(cls, hardware: Hardware, shape: ModelShape, numbers: Numbers) -> "Roofline":
        """Return the roofline of what programs reach on a device.

        Raises:
            ValueError: it has no products of such numbers.
        """
        layers, others = (
            hardware.reachable_operations_per_s(kind) for kind in (numbers.layers, numbers.others)
        )
        if layers is None or others is None:
            kind = numbers.others if others is None else numbers.layers
            known = ", ".join(hardware.operations_per_s)
            raise ValueError(f"{hardware.name} multiplies {known}, got {kind}; choose one of these")
        return cls(
            shape=shape,
            numbers=numbers,
            bytes_per_s=hardware.reachable_bytes_per_s,
            layer_operations_per_s=layers,
            other_operations_per_s=others,
        )

    @property
    def weight_bytes(self) -> float:
        """Bytes of the whole model."""
        shape, numbers = self.shape, self.numbers
        others = shape.num_parameters - shape.layer_weights
        return shape.layer_weights * numbers.layers.num_bytes + others * numbers.others.num_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        head_dim = self.numbers.head_dim or self.shape.head_dim
        numbers = 2 * self.shape.num_layers * self.shape.num_kv_heads * head_dim
        return numbers * self.numbers.cache_bytes

    def decode(self, num_rows: float, num_cached: float) -> Step:
        """Return the step that brings each row one token.

        `num_cached` counts the cached tokens that are read in a layer, over all rows.
        """
        weight_bytes = self._weights_read(num_rows)
        in_layers = 2 * self.shape.active_layer_weights * num_rows
        in_head = 2 * self.shape.head_weights * num_rows
        weights_s = weight_bytes / self.bytes_per_s
        products_s = in_layers / self.layer_operations_per_s
        products_s += in_head / self.other_operations_per_s
        cache_bytes = self.token_bytes * num_cached
        logit_bytes = _LOGIT_BYTES * self.shape.vocab_size * num_rows
        cache_s = cache_bytes / self.bytes_per_s
        times = {"weights": weights_s, "products": products_s, "cache": cache_s}
        return Step(
            weight_bytes=weight_bytes,
            cache_bytes=cache_bytes,
            logit_bytes=logit_bytes,
            operations=in_layers + in_head + self._attention(num_cached),
            seconds=max(weights_s, products_s) + cache_s + logit_bytes / self.bytes_per_s,
            bound_by=max(times, key=lambda name: times[name]),
        )

    def prefill(self, num_tokens: float, num_seen: float, num_rows: float) -> Step:
        """Return the step that computes so many tokens of so many rows' prompts.

        `num_seen` counts the tokens that each of them attends to in a layer, summed up.
        """
        weight_bytes = self._weights_read(num_tokens)
        in_layers = 2 * self.shape.active_layer_weights * num_tokens
        others = 2 * self.shape.head_weights * num_rows + self._attention(num_seen)
        weights_s = weight_bytes / self.bytes_per_s
        products_s = in_layers / self.layer_operations_per_s + others / self.other_operations_per_s
        return Step(
            weight_bytes=weight_bytes,
            cache_bytes=0.0,
            logit_bytes=0.0,
            operations=in_layers + others,
            seconds=max(weights_s, products_s),
            bound_by="weights" if weights_s > products_s else "products",
        )

    def _weights_read(self, num_tokens: float) -> float:
        layers = self.shape.touched_layer_weights(num_tokens) * self.numbers.layers.num_bytes
        return layers + self.shape.head_weights * self.numbers.others.num_bytes

    def _attention(self, num_seen: float) -> float:
        """Return the operations of scores and of sums over values."""
        return 4 * num_seen * self.shape.num_layers * self.shape.num_heads * self.shape.head_dim


def least_seconds(roofline: Roofline, prompts: Sequence[int], answers: Sequence[int]) -> float:
    """Return the least time of rows of these lengths that all run at once, prompts first."""
    seen = sum(roofline.shape.seen_between(0, size) for size in prompts)
    total_s = roofline.prefill(sum(prompts), seen, len(prompts)).seconds
    for place in range(1, max(answers)):
        contexts = [
            size + place for size, length in zip(prompts, answers, strict=True) if length > place
        ]
        cached = sum(roofline.shape.seen_between(size - 0.5, size + 0.5) for size in contexts)
        total_s += roofline.decode(len(contexts), cached).seconds
    return total_s
