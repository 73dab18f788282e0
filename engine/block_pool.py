"""Which block of the key-value cache belongs to whom. Knows block numbers and hashes, no tensors.

A block is in exactly one of three places:

    free    holds nothing worth keeping             ^ allocate: free first, then the oldest cached
    cached  full, hashed, referenced by nobody      | (its hash is forgotten)
    used    in the block table of 1 or more rows,   v free: to cached if hashed, else to free
            or fenced

A row's blocks are fenced while a step is in flight that may still write to them. Until it has
ended they count as used, so that nobody else writes there, or finds there what is none of his.

Blocks are shared by content: a full block is known by the hash of its tokens and, through its
parent's hash, of all tokens before it. Block 0 is the null block that padding points to.
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

NULL_BLOCK = 0
_DIGEST_BYTES = 16
_TOKEN_BYTES = 4


@lru_cache(maxsize=1024)
def root_hash(model: str, salt: str) -> bytes:
    """Return the parent of every first block: caches of two models or two salts never meet."""
    root = blake2b(digest_size=_DIGEST_BYTES, person=b"penstock-kv")
    for part in (model, salt):
        encoded = part.encode("utf-8", "surrogatepass")  # each text its own bytes
        root.update(len(encoded).to_bytes(8, "little") + encoded)
    return root.digest()


def hash_blocks(parent: bytes, token_ids: Sequence[int], block_size: int) -> Iterator[bytes]:
    """Yield the chain hash of each full block of `token_ids`, which follow the block `parent`.

    BLAKE2b, because a collision would hand one tenant's context to another.
    """
    packed = array("i", token_ids).tobytes()
    stride = block_size * _TOKEN_BYTES
    for end in range(stride, len(packed) + 1, stride):
        parent = blake2b(parent + packed[end - stride : end], digest_size=_DIGEST_BYTES).digest()
        yield parent


class BlockPool:
    """Blocks 1..num_blocks-1, counted by reference and kept for reuse by content."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 2:
            raise ValueError(f"num_blocks must be at least 2 (one is the null block): {num_blocks}")
        self.block_size = block_size
        self.capacity = num_blocks - 1
        self._ref_counts = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free = list(range(num_blocks - 1, NULL_BLOCK, -1))  # a stack: low numbers first
        self._cached: OrderedDict[int, None] = OrderedDict()  # oldest first
        self._fenced: deque[tuple[int, Sequence[int]]] = deque()  # behind which step; oldest first
        self._last_ended = 0  # number of the last step that has ended

    @property
    def num_fenced(self) -> int:
        """Blocks given back that a step in flight may still write to."""
        return sum(len(blocks) for _, blocks in self._fenced)

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` can hand out: free ones and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def used_fraction(self) -> float:
        """The part of the pool that rows hold, from 0 to 1."""
        return 1.0 - self.num_available / self.capacity

    def find(self, hashes: Iterable[bytes]) -> list[int]:
        """Return the blocks that hold the longest known prefix of `hashes`, without taking them."""
        blocks: list[int] = []
        for block_hash in hashes:
            block = self._block_of.get(block_hash)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def num_needed(self, shared: Iterable[int], num_fresh: int) -> int:
        """Count what `allocate` would take from the available blocks."""
        return num_fresh + sum(not self._ref_counts[block] for block in shared)

    def allocate(self, num_fresh: int, shared: Sequence[int] = ()) -> list[int] | None:
        """Take `shared` once more and `num_fresh` empty blocks; None, and no change, if no room."""
        if self.num_needed(shared, num_fresh) > self.num_available:
            return None
        for block in shared:
            if not self._ref_counts[block]:
                del self._cached[block]
            self._ref_counts[block] += 1
        return [*shared, *(self._take() for _ in range(num_fresh))]

    def free(self, blocks: Sequence[int], last_step: int = 0) -> None:
        """Give one reference of each block back. Every release goes through here.

        `last_step` is the number of the last step that writes to them: they are kept until
        `release` tells that it has ended. The tail of a row is evicted before its head, which
        others are likelier to share.
        """
        if last_step > self._last_ended:
            self._fenced.append((last_step, blocks))
            return
        for block in reversed(blocks):
            count = self._ref_counts[block]
            if count < 1:
                raise RuntimeError(f"block {block} was freed more often than it was allocated")
            self._ref_counts[block] = count - 1
            if count == 1:
                if self._hash_of[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    def release(self, step: int) -> None:
        """Free what was fenced for this step and those before it, for they have ended."""
        self._last_ended = step
        for _ in range(len(self._fenced)):
            last_step, blocks = self._fenced.popleft()
            self.free(blocks, last_step)

    def publish(self, block: int, block_hash: bytes) -> None:
        """Let others find a full block whose contents have been computed.

        If an equal block is known already, that one stays, and this one remains its row's own.
        """
        if block_hash not in self._block_of and self._hash_of[block] is None:
            self._block_of[block_hash] = block
            self._hash_of[block] = block_hash

    def forget(self, blocks: Iterable[int]) -> None:
        """Withdraw blocks whose contents are not to be trusted, from the cache alone."""
        for block in blocks:
            self._unpublish(block)
            if block in self._cached:
                del self._cached[block]
                self._free.append(block)

    def check(self, block_tables: Iterable[Sequence[int]]) -> None:
        """Verify every invariant against the block tables of all running rows.

        Raises:
            RuntimeError: the books do not balance.
        """
        counted = [0] * len(self._ref_counts)
        for table in (*block_tables, *(blocks for _, blocks in self._fenced)):
            for block in table:
                counted[block] += 1
        if any(last_step <= self._last_ended for last_step, _ in self._fenced):
            raise RuntimeError("a block is fenced for a step that has ended")
        if counted != self._ref_counts:
            wrong = [b for b, count in enumerate(counted) if count != self._ref_counts[b]]
            raise RuntimeError(f"reference counts differ from the block tables at blocks {wrong}")
        if counted[NULL_BLOCK]:
            raise RuntimeError("the null block was handed out")
        num_used = sum(count > 0 for count in counted)
        resting = {*self._free, *self._cached}
        if len(resting) != self.num_available or any(counted[block] for block in resting):
            raise RuntimeError("a block is in two places")
        if num_used + self.num_available != self.capacity:
            raise RuntimeError(
                f"{num_used} used + {len(self._cached)} cached + {len(self._free)} free blocks "
                f"are not {self.capacity}"
            )
        named = {block: block_hash for block_hash, block in self._block_of.items()}
        if named != {b: h for b, h in enumerate(self._hash_of) if h is not None}:
            raise RuntimeError("the hash index and the blocks' hashes differ")
        if not self._cached.keys() <= named.keys() or not named.keys().isdisjoint(self._free):
            raise RuntimeError("a cached block has no hash, or a free one has")

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            self._unpublish(block)
        self._ref_counts[block] = 1
        return block

    def _unpublish(self, block: int) -> None:
        block_hash = self._hash_of[block]
        if block_hash is not None:
            del self._block_of[block_hash]
            self._hash_of[block] = None
