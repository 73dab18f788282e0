"""Which rows of a step read the same keys: what attention over shared prefixes is told.

Knows tensors, and how they lie in one memory that a single copy fills. Refuses to know how groups
are found (`engine/prefix_forest.py`).

    rows 0 to 4 share 512 tokens, and rows 3, 4 and 1 another 256

    group   members      first_tokens  end_tokens         prefix_lens
    0       0 1 2 3 4    0             512                512 768 512 768 768
    1       3 4 1        512           768
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

import torch

SPLIT_TOKENS = 256  # keys that one program of decoding takes; fixed, so that sums keep their order
_MOST_GROUPS = 64  # every program holds them all in registers
_LEVELS = 2  # of groups that there is room for if all rows are in them
_ALIGNMENT = 4  # numbers; kernels are compiled for pointers to 16 bytes


@dataclass(frozen=True, slots=True)
class PrefixRoom:
    """How many groups, members of groups and rows fit: bounds that a CUDA graph can keep."""

    num_groups: int
    num_members: int
    num_rows: int

    @classmethod
    def of(cls, max_rows: int) -> Self:
        """Return room for steps of so many rows."""
        return cls(max(1, min(_MOST_GROUPS, max_rows // 2)), _LEVELS * max_rows, max_rows)

    @property
    def num_numbers(self) -> int:
        """Of the whole memory, int32 each."""
        return sum(map(_aligned, self._sizes().values()))

    def parts(self) -> dict[str, slice]:
        """Return where in the memory each tensor of `PrefixGroups` lies."""
        sizes = self._sizes()
        begins = accumulate(map(_aligned, sizes.values()), initial=0)
        return {
            name: slice(begin, begin + size)
            for (name, size), begin in zip(sizes.items(), begins, strict=False)  # and the end
        }

    def _sizes(self) -> dict[str, int]:
        return {
            "group_start": self.num_groups + 1,
            "first_tokens": self.num_groups,
            "end_tokens": self.num_groups,
            "members": self.num_members,
            "prefix_lens": self.num_rows,
        }


@dataclass(frozen=True, slots=True)
class PrefixGroups:
    """Rows of one token each that share keys; all int32, and views of `memory`.

    A row may be in several groups, whose tokens then follow one another from the row's first.

    Attributes:
        memory: all of it, to be filled by one copy.
        group_start: [G + 1], where each group's members begin, and the end. There may be groups
            without members behind the others.
        first_tokens: [G], where the keys begin that a group shares: a multiple of `SPLIT_TOKENS`.
        end_tokens: [G], where they end: the same.
        members: [M], rows, one group after the other.
        prefix_lens: [R], tokens of a row that its groups share, below its context; 0 for others.
    """

    memory: torch.Tensor
    group_start: torch.Tensor
    first_tokens: torch.Tensor
    end_tokens: torch.Tensor
    members: torch.Tensor
    prefix_lens: torch.Tensor

    @classmethod
    def over(cls, memory: torch.Tensor, room: PrefixRoom) -> Self:
        """Return the groups that are in a memory, or will be."""
        return cls(memory, **{name: memory[part] for name, part in room.parts().items()})

    def spread(self, block_tables: torch.Tensor, block_size: int) -> torch.Tensor:
        """Return block tables in which all members of a group have the first one's blocks."""
        tables = block_tables.clone()
        starts = self.group_start.tolist()
        bounds = zip(self.first_tokens.tolist(), self.end_tokens.tolist(), strict=True)
        for (begin, end), (first, last) in zip(pairwise(starts), bounds, strict=True):
            if begin < end:
                rows = self.members[begin:end].long()
                columns = slice(first // block_size, last // block_size)
                tables[rows, columns] = block_tables[rows[0], columns]
        return tables


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
