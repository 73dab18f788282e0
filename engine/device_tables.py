"""The tables that the device keeps of the running rows, in one piece of memory.

Knows where each number lies, so that any edit is a (place, number) pair. Refuses to know rows.

    tokens [lines, max_tokens + 1] | known | computed [lines] | blocks [lines, max_blocks] | lines

Bytes: 4 for each token and 4 for each block that a line may have, 138 KiB a line for 32,768 tokens.
"""

from itertools import accumulate

import torch

from ..kernels.reference_cache import RowTables

PADDING = -1


class DeviceTables:
    """Views of one int32 tensor, of which the addresses stay.

    Attributes:
        num_lines: rows that they have room for.
        rows: what the kernels read and advance; all lines and all columns.
        lines: int32 [num_lines], the lines of a step's rows in their order, then padding.
        memory: all of them, int32.
        max_blocks: columns of the block tables.
    """

    def __init__(
        self, *, num_lines: int, max_tokens: int, block_size: int, device: torch.device
    ) -> None:
        width, self.max_blocks = max_tokens + 1, -(-max_tokens // block_size)
        sizes = [num_lines * width, num_lines, num_lines, num_lines * self.max_blocks, num_lines]
        starts = [*accumulate(sizes, initial=0)]
        _, self._known, self._computed, self._blocks, self._lines, end = starts
        self.memory = torch.zeros(end, dtype=torch.int32, device=device)
        tokens, known, computed, blocks, self.lines = self.memory.split(sizes)
        self.rows = RowTables(
            tokens.view(num_lines, width), known, computed, blocks.view(num_lines, self.max_blocks)
        )
        self.num_lines = num_lines

    def leading(self, num_blocks: int) -> RowTables:
        """Return the rows with so many columns of their block tables."""
        rows = self.rows
        return RowTables(
            rows.tokens, rows.num_known, rows.num_computed, rows.blocks[:, :num_blocks]
        )

    def token_place(self, line: int, position: int) -> int:
        """Return where a row's token lies in the memory."""
        return line * self.rows.tokens.shape[1] + position

    def known_place(self, line: int) -> int:
        """Return where it says how many tokens are known."""
        return self._known + line

    def computed_place(self, line: int) -> int:
        """Return where it says how many of them are in the cache."""
        return self._computed + line

    def block_place(self, line: int, index: int) -> int:
        """Return where a row's block lies."""
        return self._blocks + line * self.max_blocks + index

    def lines_place(self, row: int) -> int:
        """Return where it says which line a step's row has."""
        return self._lines + row
