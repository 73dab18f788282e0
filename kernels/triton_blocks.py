"""Copying cache blocks on the device, and between it and pinned memory of the host.

Nothing but tests and the check on a GPU (`benchmarks/gpu_check.py`) calls them: they are for an
engine that swaps, which this one does not. A preempted row is computed again, for what it had
computed stays in the prefix cache until somebody needs the room; and no row is forked in the middle
of a block. To keep blocks in the host's memory instead would be these copies, and a second place
for the block pool to know: it pays where reading a token's keys and values over PCIe (128 KiB for
Llama-3.1-8B, 2.5 µs at 50 GB/s) is quicker than computing them (20 µs at 790 TFLOP/s), for long
rows that come back.

A block of all layers is one contiguous piece (`engine/kv_cache.py`). Bytes per block: twice its
size. Operations: none. To the host, blocks are gathered first and then travel in one transfer,
which the copy engine does beside the kernels.
"""

import torch
import triton
import triton.language as tl

from .triton_launch import launch

_WORDS = 4096


@triton.jit
def _copy_kernel(source, target, pairs, num_words, TILE: tl.constexpr):
    """One program: TILE words of one block; storages are seen as int32 [blocks, words]."""
    pair = tl.program_id(0)
    words = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_word = words < num_words
    from_block = tl.load(pairs + 2 * pair) * num_words
    to_block = tl.load(pairs + 2 * pair + 1) * num_words
    tl.store(target + to_block + words, tl.load(source + from_block + words, mask=is_word), is_word)


def copy_blocks(source: torch.Tensor, target: torch.Tensor, pairs: torch.Tensor) -> None:
    """Compute `reference_cache.copy_blocks`.

    Raises:
        ValueError: blocks are not contiguous, not whole words, or of different sizes.
    """
    from_words, to_words = _words_of("source", source), _words_of("target", target)
    num_words = from_words.shape[1]
    if to_words.shape[1] != num_words:
        raise ValueError(
            f"blocks must be of one size, got {4 * num_words} and {4 * to_words.shape[1]} bytes"
        )
    grid = (pairs.shape[0], -(-num_words // _WORDS))
    launch(_copy_kernel, grid, from_words, to_words, pairs, num_words, TILE=_WORDS, num_warps=8)


def blocks_to_host(storage: torch.Tensor, blocks: torch.Tensor, room: torch.Tensor) -> None:
    """Start copying blocks, int64 [N], into pinned `room` [N, ...]; done when the stream is."""
    gathered = storage.new_empty((blocks.shape[0], *storage.shape[1:]))
    places = torch.arange(blocks.shape[0], device=blocks.device)
    copy_blocks(storage, gathered, torch.stack([blocks, places], dim=1))
    room.copy_(gathered, non_blocking=True)


def blocks_from_host(room: torch.Tensor, storage: torch.Tensor, blocks: torch.Tensor) -> None:
    """Start copying pinned `room` [N, ...] into blocks, int64 [N]; done when the stream is."""
    arrived = room.to(storage.device, non_blocking=True)
    places = torch.arange(blocks.shape[0], device=blocks.device)
    copy_blocks(arrived, storage, torch.stack([places, blocks], dim=1))


def _words_of(name: str, storage: torch.Tensor) -> torch.Tensor:
    if not storage.is_contiguous() or storage[0].nbytes % 4:
        raise ValueError(
            f"{name} must be contiguous blocks of whole words of 4 bytes, got blocks of "
            f"{storage[0].nbytes} bytes with strides {storage.stride()}"
        )
    return storage.flatten(1).view(torch.int32)
