"""What a step takes of a GPU at its peak, found out by doing the largest ones there can be.

Knows shapes and a meter. Refuses to know how memory is shared out (`kv_cache.py`).

    largest step   all tokens of the budget, logits for every row and for what is told of prompts,
                   sampled with everything that can be asked for, over the widest block tables
    decode step    the same for one token of each row: what a CUDA graph has in its own memory,
                   which all graphs share, for no two are replayed at once

The steps are padding: they read the null block and write nowhere.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..kernels.reference import LayerCache
from .batch import StepBatch
from .captured import max_graphs
from .device_sampler import DeviceSampler, Needs
from .device_stream import using
from .device_tables import PADDING, DeviceTables
from .graphs import captured_rows
from .kv_cache import MeasuredMemory
from .scheduler import MAX_PROMPT_LOGITS

_MIB = 1024**2
_GRAPH_BYTES = 8 * _MIB  # the driver's, for the some 400 launches of one graph

Decode = Callable[[StepBatch, Sequence[LayerCache]], torch.Tensor]


class MemoryMeter(Protocol):
    """Tells how much memory a device has, and how much was taken."""

    def free_and_total(self) -> tuple[int, int]:
        """Return bytes that are nobody's, and all there are."""
        ...

    def reset(self) -> None:
        """Give back what nobody uses, and forget earlier peaks."""
        ...

    def peak_bytes(self) -> int:
        """Return the most that was taken at once since `reset`, beyond what was taken then."""
        ...


class CudaMeter:
    """Reads the driver and PyTorch's allocator, whose pieces count as a whole."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._reserved = 0

    def free_and_total(self) -> tuple[int, int]:
        """See `MemoryMeter`."""
        return torch.cuda.mem_get_info(self._device)

    def reset(self) -> None:
        """See `MemoryMeter`."""
        torch.cuda.synchronize(self._device)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        self._reserved = torch.cuda.memory_reserved(self._device)

    def peak_bytes(self) -> int:
        """See `MemoryMeter`."""
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_reserved(self._device) - self._reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """The largest steps there can be.

    Attributes:
        max_rows: rows in a step.
        max_tokens: tokens in a step.
        max_model_len: tokens of a row.
        block_size: tokens of a block.
        vocab_size: logits of a row.
        device: where they are computed.
        on_device: whether rows have lines there, and are sampled there.
        are_captured: whether steps of single tokens are captured.
    """

    max_rows: int
    max_tokens: int
    max_model_len: int
    block_size: int
    vocab_size: int
    device: torch.device
    on_device: bool
    are_captured: bool

    @property
    def num_lines(self) -> int:
        """Rows, with padding."""
        return captured_rows(self.max_rows) or self.max_rows

    @property
    def max_blocks(self) -> int:
        """Blocks of a row."""
        return -(-self.max_model_len // self.block_size)


def measure(
    decode: Decode, caches: Sequence[LayerCache], limits: StepLimits, meter: MemoryMeter
) -> MeasuredMemory:
    """Do the largest steps and return what they took. Call once weights are loaded.

    `caches` need hold the null block alone. What is made here is given back before it returns.
    """
    with using(limits.device):
        return _measure(decode, caches, limits, meter)


def _measure(
    decode: Decode, caches: Sequence[LayerCache], limits: StepLimits, meter: MemoryMeter
) -> MeasuredMemory:
    meter.reset()
    free_bytes, total_bytes = meter.free_and_total()
    num_logits = min(limits.max_tokens, limits.max_rows + MAX_PROMPT_LOGITS)
    _do(decode, caches, limits, limits.max_tokens, num_logits)
    step_bytes, graph_bytes = meter.peak_bytes(), 0
    if limits.are_captured:
        meter.reset()
        _do(decode, caches, limits, limits.num_lines, limits.num_lines)
        graph_bytes = meter.peak_bytes() + max_graphs(limits.num_lines) * _GRAPH_BYTES
    meter.reset()
    return MeasuredMemory(
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        step_bytes=step_bytes,
        graph_bytes=graph_bytes,
    )


@torch.inference_mode()
def _do(
    decode: Decode,
    caches: Sequence[LayerCache],
    limits: StepLimits,
    num_tokens: int,
    num_logits: int,
) -> None:
    """Do a step of padding; with tables and a sampler, which stay for good, beside it."""
    lines = torch.full((limits.num_lines,), PADDING, dtype=torch.int32, device=limits.device)
    sampler = _sampler(limits) if limits.on_device else None
    logits = decode(padding_batch(limits, num_tokens, num_logits), caches).float()
    if sampler is not None:
        rows = logits[: min(limits.num_lines, len(logits))]
        everything = Needs.RULES | Needs.PENALTIES | Needs.FILTERS | Needs.LOGPROBS
        sampler.sample(rows, lines[: len(rows)], everything)


def _sampler(limits: StepLimits) -> DeviceSampler:
    tables = DeviceTables(
        num_lines=limits.num_lines,
        max_tokens=limits.max_model_len,
        block_size=limits.block_size,
        device=limits.device,
    )
    return DeviceSampler(tables.rows, limits.vocab_size)


def padding_batch(limits: StepLimits, num_tokens: int, num_logits: int) -> StepBatch:
    """Return a step of rows that are not there, their tokens dealt out evenly."""
    device = limits.device
    num_rows = max(min(limits.num_lines, num_tokens), -(-num_tokens // limits.max_model_len))
    starts = torch.arange(num_rows + 1, device=device) * num_tokens // num_rows
    counts = starts.diff()
    numbers = torch.arange(num_tokens, device=device)
    rows = torch.repeat_interleave(counts)
    return StepBatch(
        token_ids=torch.zeros_like(numbers),
        positions=numbers - starts[rows],
        slots=torch.full_like(numbers, -1),
        query_start=starts.int(),
        context_lens=counts.int(),
        block_tables=torch.zeros((num_rows, limits.max_blocks), dtype=torch.int32, device=device),
        logit_rows=numbers[num_tokens - num_logits :],
        max_context_len=int(counts.max()),
    )
