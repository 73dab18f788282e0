"""Who finds computed blocks of whom, and who had better wait for them. Knows hashes, no room.

published    full blocks whose step has ended: anybody may share them
under way    those that a prefill is filling, in this step or in flight
"""

from collections.abc import Iterable

from .block_pool import BlockPool
from .sequence import Sequence
from .step import StepPart


class SharedPrefixes:
    """The prefix cache as sequences see it; where it is not enabled nobody finds anything."""

    def __init__(self, pool: BlockPool, *, is_enabled: bool) -> None:
        self._pool = pool
        self._is_enabled = is_enabled
        self._under_way: set[bytes] = set()  # hashes of the blocks that prefills are filling

    def begin_step(self, in_flight: Iterable[Sequence]) -> None:
        """Expect what the steps in flight are filling, and nothing else yet."""
        self._under_way = set()
        for sequence in in_flight:
            self.expect(sequence)

    def expect(self, sequence: Sequence) -> None:
        """Note that a sequence's blocks are being filled."""
        self._under_way.update(sequence.block_hashes[sequence.num_published :])

    def find(self, sequence: Sequence) -> list[int]:
        """Find the blocks that need no computing; the last token always is, for its logits."""
        if not self._is_enabled:
            return []
        block_size = self._pool.block_size
        num_usable = (len(sequence.token_ids) - 1) // block_size
        hashes = sequence.hash_full_blocks(block_size)[:num_usable]
        return [] if sequence.lacks_prompt_outputs else self._pool.find(hashes)

    def is_under_way(self, sequence: Sequence, num_cached: int) -> bool:
        """Whether to wait for a neighbour that computes the next block anyway.

        So the samples of one request share its prompt, and a thousand prompts their preamble.
        Urgent ones wait for no bulk row: those are not planned yet when their turn comes, and
        nothing is in flight then.
        """
        if sequence.lacks_prompt_outputs:
            return False
        num_usable = (len(sequence.token_ids) - 1) // self._pool.block_size
        hashes = sequence.block_hashes[:num_usable]
        return num_cached < len(hashes) and hashes[num_cached] in self._under_way

    def publish(self, parts: Iterable[StepPart]) -> None:
        """Let others find the blocks that a step has filled, but for those given back since."""
        if not self._is_enabled:
            return
        block_size = self._pool.block_size
        for part in parts:
            sequence = part.sequence
            num_full = part.end // block_size
            if num_full > sequence.num_published and part.row.block_table is sequence.block_table:
                hashes = sequence.hash_full_blocks(block_size)
                for index in range(sequence.num_published, num_full):
                    self._pool.publish(sequence.block_table[index], hashes[index])
                sequence.num_published = num_full

    def forget(self, sequence: Sequence) -> None:
        """Withdraw a faulty sequence's blocks."""
        self._pool.forget(sequence.block_table)
