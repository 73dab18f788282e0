"""Starting Triton kernels: over which grid, and with how many programs.

Knows devices. Refuses to know what the programs do.
"""

from typing import Any

import torch

_INTERPRETED_PROGRAMS = 3  # without a GPU: few, so that tests see a program take several items


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Start `grid` programs of a kernel; `options` are its constants and Triton's own.

    An empty grid is nothing to do, where CUDA would call it an error.
    """
    if all(grid):
        kernel[grid](*arguments, **options)


def line_stride(*columns: torch.Tensor) -> int:
    """Return how many elements lie between lines of tables' columns, which must be one number.

    Raises:
        ValueError: the columns are not of one table, or not columns.
    """
    strides = {column.stride(0) for column in columns if column.dim() == 1}
    if len(strides) != 1:
        found = [tuple(column.stride()) for column in columns]
        raise ValueError(f"columns must be those of one table, got strides {found}")
    return strides.pop()


def num_persistent_programs(device: torch.device, per_multiprocessor: int) -> int:
    """Return the programs that fill the device, at so many for each of its multiprocessors."""
    if device.type != "cuda":
        return _INTERPRETED_PROGRAMS
    return torch.cuda.get_device_properties(device).multi_processor_count * per_multiprocessor


def power_of_2_from(number: int, at_least: int = 1) -> int:
    """Return the first power of two that is neither below `number` nor below `at_least`."""
    return 1 << (max(number, at_least) - 1).bit_length()
