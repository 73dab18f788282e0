"""Which rows of a step begin with the same blocks, and whether it pays to read those only once.

Knows block tables. Refuses to know tokens, hashes and who owns a block: rows share what lies in the
same memory, however that came about. What it misses costs time and nothing else.

    row 0   |a a|b b|c       a segment: the blocks of 256 tokens. Each row's first segments are
    row 1   |a a|b b|d       a path from a root; equal beginnings are one path, so that all rows
    row 2   |a a|e           together are a forest. Rows 0, 1, 2 are a group over a, 0 and 1 over b.

A row's path is learnt once, when it first brings a single token: block tables only grow, and a row
that was preempted comes back with another one. After that a step costs one look-up for each row,
0.2 ms for 1,024, and where other rows are in it than in the last one a few passes over an array of
their paths, as much again for eight segments each.

What it saves, in bytes of each layer: (members - 1) * shared tokens * 2 * kv_heads * head_dim *
itemsize for each group; it adds one launch, and nothing to the partial sums, for contexts of more
than a segment are split anyway. Say 1,024 rows of Qwen3-0.6B (28 layers of 4 KiB a token) share
2,048 tokens: their prefix is 8.6 GB a layer without groups and 8 MiB with them, so of a step's 56
ms of reading (at 4.3 TB/s) 2 ms remain, 43 µs a layer of products at half of 790 TFLOP/s and 31 µs
of partial sums.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..kernels.prefix_groups import SPLIT_TOKENS, PrefixGroups, PrefixRoom
from .batch import ScheduledRow

_MOST_SEGMENTS = 32  # of a row's prefix: what two rows share past 8,192 tokens is read twice
_LAUNCH_BYTES = 16 * 1024**2  # what a GPU reads while a kernel starts: 4 µs at 4.3 TB/s
_REMEMBERED = 4  # times as many rows as a step can have
_NO_PATH = 0  # the number of the path of rows that are in no group


def pays(num_saved_tokens: int, token_bytes: int) -> bool:
    """Whether a layer saves more by reading so many tokens less than a launch costs."""
    return num_saved_tokens * token_bytes > _LAUNCH_BYTES


class PrefixForest:
    """The paths of the rows that run."""

    def __init__(self, *, block_size: int, token_bytes: int, max_rows: int) -> None:
        """`token_bytes` are those of one token's key and value in one layer."""
        self.room = PrefixRoom.of(max_rows)
        self._token_bytes = token_bytes
        # A block that is cut by a segment's border, or is larger, is never shared.
        self._segment = SPLIT_TOKENS // block_size if SPLIT_TOKENS % block_size == 0 else 0
        self._most_paths = 1 + _REMEMBERED * max_rows
        self._forget()

    def find(self, rows: Sequence[ScheduledRow]) -> np.ndarray | None:
        """Return the groups of a step, int32 as `PrefixRoom.parts` has them; None if none pay.

        Only rows of a single token are in groups. While the rows stay the same, so does the array.
        """
        if not self._segment or len(rows) > self.room.num_rows:
            return None
        if len(self._tables) + len(rows) > self._most_paths:
            self._forget()
        numbers = [self._path_of(row) for row in rows]
        if numbers != self._latest:
            self._latest = numbers
            self._found = self._group(np.array(numbers))
        return self._found

    def groups(self, rows: Sequence[ScheduledRow], device: torch.device) -> PrefixGroups | None:
        """Return what `find` does on a device, in memory of its own."""
        found = self.find(rows)
        if found is None:
            return None
        return PrefixGroups.over(torch.from_numpy(found).to(device, copy=True), self.room)

    def _forget(self) -> None:
        self._numbers: dict[int, int] = {}  # of paths, by their block table's identity
        self._tables: list[Sequence[int]] = [()]  # kept alive, or an identity could come again
        self._nodes: dict[tuple[int, ...], int] = {}
        self._paths = np.zeros((self._most_paths, _MOST_SEGMENTS), np.int32)
        self._lengths = np.zeros(self._most_paths, np.int32)
        self._latest: list[int] = []
        self._found: np.ndarray | None = None

    def _path_of(self, row: ScheduledRow) -> int:
        if row.position < SPLIT_TOKENS or len(row.token_ids) != 1:
            return _NO_PATH
        known = self._numbers.get(id(row.block_table))
        return self._learn(row) if known is None else known

    def _learn(self, row: ScheduledRow) -> int:
        """Number a row's segments; equal numbers are equal beginnings of block tables."""
        number = self._numbers[id(row.block_table)] = len(self._tables)
        self._tables.append(row.block_table)
        length = min(row.position // SPLIT_TOKENS, _MOST_SEGMENTS)
        parent = 0
        for index in range(length):
            begin = index * self._segment
            segment = (parent, *row.block_table[begin : begin + self._segment])
            parent = self._nodes.setdefault(segment, len(self._nodes) + 1)
            self._paths[number, index] = parent
        self._lengths[number] = length
        return number

    def _group(self, numbers: np.ndarray) -> np.ndarray | None:
        paths = self._paths[numbers, : self._lengths[numbers].max(initial=0)]
        sizes = np.bincount(paths.ravel(), minlength=1)
        sizes[0] = 0  # is no segment
        sizes = sizes[paths]
        is_shared = sizes > 1
        begins = is_shared.copy()
        begins[:, 1:] &= sizes[:, 1:] != sizes[:, :-1]
        depths, members = np.nonzero(begins.T)  # roots first, rows in order
        if not len(members):
            return None
        ends = _next_in_row(begins | ~is_shared)[members, depths]
        nodes = paths[members, depths]
        num_saved = (sizes[members, depths] - 1) * (ends - depths)
        order = np.lexsort((nodes, -num_saved, depths))  # stable, and parents before children
        starts = np.flatnonzero(np.diff(nodes[order], prepend=-1))
        starts = self._that_fit(np.append(starts, len(order)))
        first_members = order[starts[:-1]]
        if not pays(int(num_saved[first_members].sum()) * SPLIT_TOKENS, self._token_bytes):
            return None
        order = order[: starts[-1]]
        return self._packed(
            starts,
            depths[first_members] * SPLIT_TOKENS,
            ends[first_members] * SPLIT_TOKENS,
            members[order],
            ends[order] * SPLIT_TOKENS,
        )

    def _that_fit(self, starts: np.ndarray) -> np.ndarray:
        """Return the bounds of the first groups. A child left in has its parent left in."""
        num_groups = np.searchsorted(starts, self.room.num_members, side="right") - 1
        return starts[: min(num_groups, self.room.num_groups) + 1]

    def _packed(
        self,
        starts: np.ndarray,
        first_tokens: np.ndarray,
        end_tokens: np.ndarray,
        members: np.ndarray,
        member_ends: np.ndarray,
    ) -> np.ndarray:
        memory = np.zeros(self.room.num_numbers, np.int32)
        parts = {name: memory[part] for name, part in self.room.parts().items()}
        parts["group_start"][:] = starts[-1]
        parts["group_start"][: len(starts)] = starts
        parts["first_tokens"][: len(first_tokens)] = first_tokens
        parts["end_tokens"][: len(end_tokens)] = end_tokens
        parts["members"][: len(members)] = members
        np.maximum.at(parts["prefix_lens"], members, member_ends.astype(np.int32))
        return memory


def _next_in_row(marks: np.ndarray) -> np.ndarray:
    """Return for each place of bool [R, C] the column of the next mark behind it, C if none."""
    rows, columns = marks.shape
    places = np.where(marks, np.arange(columns), columns)
    following = np.full((rows, columns + 1), columns)
    following[:, :-1] = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]
    return following[:, 1:]
