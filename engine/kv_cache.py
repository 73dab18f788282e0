"""The memory that keys and values live in, and how many blocks of it there are.

Knows bytes and strides. Refuses to know who owns which block (`block_pool.py` does).

    storage [num_blocks, num_layers, 2, kv_heads * head_dim * block_size]

All layers of a block lie together, so that one block is one contiguous copy. Block 0 is the null
block: block tables are padded with it and nothing is written there. Each layer is seen through
`LayerCache`, whose logical shape [num_blocks, block_size, kv_heads, head_dim] is the same
everywhere; the order in memory is the device's:

    CPU    key   [block, kv_head, head_dim, block_size]   16 keys of one dimension make one vector
           value [block, kv_head, block_size, head_dim]
    CUDA   both  [block, block_size, kv_head, head_dim]

In eight-bit floats (`kv_cache_dtype="fp8_e4m3"`) a block takes half of bfloat16's bytes, so that
there are twice as many, and decoding reads half as much. All rows of an engine share one storage:
that is why the choice belongs to a served model and not to a job, and why the hashes of blocks
need not tell the type.
"""

import logging
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from ..kernels.reference import LayerCache
from .config import EngineConfig
from .foreign_architecture import Architecture
from .memory import available_bytes

GIB = 1024**3
_GPU_SPARE = 0.02  # of a GPU's memory, for what falls between the allocator's pieces
_UNMEASURED_RESERVE = 0.08  # the same, for steps, graphs and the sampler if nobody has measured
_CACHE_LINE = 64
_FP8_CAPABILITY = (8, 9)  # the first GPUs that convert eight-bit floats
_CPU_MOST_BYTES = 4 * GIB  # a long job touches all of it in the end, and the machine is shared

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheScales:
    """What the numbers of one layer's cache stand for, times this, where they are eight-bit."""

    key: float = 1.0
    value: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShape:
    """What one block holds.

    Attributes:
        head_dim: numbers per head as the kernels keep it, which may be more than the model has.
        block_size: tokens.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype

    @property
    def layer_elements(self) -> int:
        """Elements of one layer's keys, or of its values."""
        return self.num_kv_heads * self.head_dim * self.block_size

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's key and value in one layer."""
        return 2 * self.num_kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes over all layers, keys and values."""
        return 2 * self.num_layers * self.layer_elements * self.dtype.itemsize


class KVCache:
    """Keys and values of all layers for `num_blocks` blocks."""

    def __init__(self, block: BlockShape, num_blocks: int, device: torch.device) -> None:
        self.block = block
        self.num_blocks = num_blocks
        shape = (num_blocks, block.num_layers, 2, block.layer_elements)
        self._storage = _zeros(shape, block.dtype, device)

    def layer(self, index: int, scales: CacheScales | None = None) -> LayerCache:
        """Return the keys and values of one layer, with its scales if they are eight-bit."""
        if scales is None or self.block.dtype.itemsize > 1:
            scales = CacheScales()
        factors = {"key_scale": scales.key, "value_scale": scales.value}
        heads, dim, block_size = self.block.num_kv_heads, self.block.head_dim, self.block.block_size
        key, value = self._storage[:, index].unbind(1)
        if key.is_cuda:
            shape = (self.num_blocks, block_size, heads, dim)
            return LayerCache(key.view(shape), value.view(shape), **factors)
        return LayerCache(
            key.view(self.num_blocks, heads, dim, block_size).permute(0, 3, 1, 2),
            value.view(self.num_blocks, heads, block_size, dim).permute(0, 2, 1, 3),
            **factors,
        )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return zeros; on a CPU in memory that costs nothing until it is used.

    `torch.zeros` writes every page, NumPy asks the system for pages that are zero already.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = prod(shape) * dtype.itemsize
    memory = np.zeros(size + _CACHE_LINE, np.uint8)
    aligned = memory[-memory.ctypes.data % _CACHE_LINE :][:size]
    return torch.from_numpy(aligned).view(dtype).view(shape)


def choose_cache_dtype(asked: str, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type of keys and values; `EngineConfig.kv_cache_dtype` says what may be asked.

    Raises:
        ValueError: the GPU has no instructions for it.
    """
    if asked == "auto":
        return dtype
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < _FP8_CAPABILITY:
            raise ValueError(
                f"kv_cache_dtype must be auto on a GPU of compute capability {capability[0]}."
                f"{capability[1]}, which has no eight-bit floats (8.9, Ada, is the first that "
                f"has), got {asked!r}"
            )
    return torch.float8_e4m3fn


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """What a device has, measured once the weights are loaded and before the cache is.

    Attributes:
        total_bytes: of the device.
        free_bytes: nobody's.
        step_bytes: what the largest step takes at its peak: activations, logits, sampling.
        graph_bytes: what captured CUDA graphs keep for themselves.
    """

    total_bytes: int
    free_bytes: int
    step_bytes: int
    graph_bytes: int = 0

    @property
    def cache_bytes(self) -> int:
        """What is left for the cache; a small part of the device stays free for fragments."""
        taken = self.step_bytes + self.graph_bytes + int(_GPU_SPARE * self.total_bytes)
        return max(0, self.free_bytes - taken)

    def __str__(self) -> str:
        """Return a sum that a user can follow."""
        return (
            f"{self.free_bytes / GIB:.2f} GiB free, less {self.step_bytes / GIB:.2f} for a step, "
            f"{self.graph_bytes / GIB:.2f} for CUDA graphs and "
            f"{_GPU_SPARE * self.total_bytes / GIB:.2f} to spare"
        )


def plan_num_blocks(
    config: EngineConfig,
    arch: Architecture,
    block: BlockShape,
    measured: MeasuredMemory | None = None,
) -> int:
    """Return how many blocks to allocate, the null block included. Call once weights are loaded.

    As many as rows can use, `kv_cache_gb` allows and, where it was measured, memory has room for.

    Raises:
        ValueError: not even one row of two blocks would fit, or `kv_cache_gb` is too much.
    """
    longest = config.max_model_len or arch.max_position_embeddings
    usable = config.max_num_seqs * -(-longest // block.block_size) + 1
    num_blocks = min(usable, _budget_bytes(config, measured) // block.num_bytes)
    if measured is not None and num_blocks * block.num_bytes > measured.cache_bytes:
        raise ValueError(
            f"kv_cache_gb must be at most {measured.cache_bytes / GIB:.2f} on {config.device} "
            f"({measured}), got {config.kv_cache_gb}; lower it, or max_num_batched_tokens, or "
            "max_num_seqs"
        )
    if num_blocks < 3:
        raise ValueError(_too_little(config, block, measured))
    log.info(
        "the key-value cache holds %d tokens in %.2f GiB",
        (num_blocks - 1) * block.block_size,
        num_blocks * block.num_bytes / GIB,
    )
    return num_blocks


def _too_little(config: EngineConfig, block: BlockShape, measured: MeasuredMemory | None) -> str:
    least = f"3 blocks of {block.num_bytes} bytes"
    if config.kv_cache_gb is not None:
        return f"kv_cache_gb must hold at least {least}, got {config.kv_cache_gb}"
    found = f"{measured}" if measured else "not that much free memory"
    advice = "lower max_num_batched_tokens or max_num_seqs, or set kv_cache_dtype=fp8_e4m3"
    return f"the key-value cache must hold at least {least}, got {found}; {advice}"


def _budget_bytes(config: EngineConfig, measured: MeasuredMemory | None) -> int:
    if config.kv_cache_gb is not None:
        return int(config.kv_cache_gb * GIB)
    if measured is not None:
        return measured.cache_bytes
    if torch.device(config.device).type == "cuda":
        free, total = torch.cuda.mem_get_info(config.device)
        return max(0, free - int(_UNMEASURED_RESERVE * total))
    return min(available_bytes() // 4, _CPU_MOST_BYTES)
