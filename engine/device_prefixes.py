"""The groups of rows that share prefixes, on the device, at addresses that stay.

Knows what the device has been sent. Refuses to know how groups are found and what they are for.
"""

from collections.abc import Sequence as Rows

import numpy as np
import torch

from ..kernels.prefix_groups import PrefixGroups
from .batch import ScheduledRow
from .prefix_forest import PrefixForest


class DevicePrefixes:
    """What attention is told of a step's groups; sent again when other rows are in them.

    Bytes: 4 for each of two rows and some three hundred numbers, 13 KiB for steps of 1,024 rows.
    """

    def __init__(self, forest: PrefixForest, device: torch.device) -> None:
        self._forest = forest
        memory = torch.zeros(forest.room.num_numbers, dtype=torch.int32, device=device)
        self.groups = PrefixGroups.over(memory, forest.room)
        self._wanted: np.ndarray | None = None
        self._there: np.ndarray | None = None

    def clear(self) -> None:
        """Make a step without groups of whatever is computed next."""
        self.groups.memory.zero_()
        self._there = None

    def find(self, rows: Rows[ScheduledRow]) -> list[torch.Tensor] | None:
        """Return what is to be sent for a step of these rows; None if it has no groups."""
        found = self._forest.find(rows)
        if found is None:
            return None
        self._wanted = found
        return [] if found is self._there else [torch.from_numpy(found)]

    def take(self, arrived: Rows[torch.Tensor]) -> PrefixGroups:
        """Return the step's groups, once what `find` returned is on the device."""
        for memory in arrived:
            self.groups.memory.copy_(memory)
        self._there = self._wanted
        return self.groups
