"""How many programs of a persistent kernel a device should run.

Knows multiprocessors. Refuses to know what the programs do.
"""

import torch

_INTERPRETED_PROGRAMS = 3  # without a GPU: few, so that tests see a program take several items


def num_persistent_programs(device: torch.device, per_multiprocessor: int) -> int:
    """Return the programs that fill the device, at so many for each of its multiprocessors."""
    if device.type != "cuda":
        return _INTERPRETED_PROGRAMS
    return torch.cuda.get_device_properties(device).multi_processor_count * per_multiprocessor
