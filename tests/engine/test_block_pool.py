import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.engine.block_pool import NULL_BLOCK, BlockPool, hash_blocks, root_hash


def named(count: int, salt: str = "") -> list[bytes]:
    return [*hash_blocks(root_hash("model", salt), range(count * 4), 4)]


def test_what_is_allocated_comes_back() -> None:
    pool = BlockPool(num_blocks=9, block_size=4)
    blocks = pool.allocate(8)
    assert blocks is not None
    assert sorted(blocks) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert pool.used_fraction == 1.0
    assert pool.allocate(1) is None
    pool.check([blocks])
    pool.free(blocks)
    pool.check([])
    assert pool.num_available == 8


def test_no_room_changes_nothing() -> None:
    pool = BlockPool(num_blocks=4, block_size=4)
    first, second = named(2)
    blocks = pool.allocate(2)
    assert blocks is not None
    pool.publish(blocks[0], first)
    pool.publish(blocks[1], second)
    pool.free(blocks)
    assert pool.allocate(2, shared=pool.find([first, second])) is None
    pool.check([])
    assert pool.find([first, second]) == blocks


def test_a_published_block_is_shared_and_outlives_its_row() -> None:
    pool = BlockPool(num_blocks=5, block_size=4)
    first, second = named(2)
    mine = pool.allocate(2)
    assert mine is not None
    pool.publish(mine[0], first)
    yours = pool.allocate(1, shared=pool.find([first, second]))
    assert yours is not None
    assert yours[0] == mine[0]
    pool.check([mine, yours])
    pool.free(mine)
    pool.free(yours)
    assert pool.find([first, second]) == [mine[0]]
    pool.check([])


def test_the_oldest_and_deepest_cached_blocks_are_evicted_first() -> None:
    pool = BlockPool(num_blocks=5, block_size=4)
    for salt in ("old", "new"):
        blocks = pool.allocate(2)
        assert blocks is not None
        for block, block_hash in zip(blocks, named(2, salt), strict=True):
            pool.publish(block, block_hash)
        pool.free(blocks)
    held = pool.allocate(1)
    assert len(pool.find(named(2, "old"))) == 1
    assert len(pool.find(named(2, "new"))) == 2
    assert held is not None
    pool.check([held])


def test_equal_blocks_keep_the_first_name() -> None:
    pool = BlockPool(num_blocks=5, block_size=4)
    blocks = pool.allocate(2)
    assert blocks is not None
    (name,) = named(1)
    pool.publish(blocks[0], name)
    pool.publish(blocks[1], name)
    assert pool.find([name]) == [blocks[0]]
    pool.free(blocks)
    pool.check([])


def test_a_forgotten_block_is_found_no_more() -> None:
    pool = BlockPool(num_blocks=4, block_size=4)
    blocks = pool.allocate(2)
    assert blocks is not None
    for block, block_hash in zip(blocks, named(2), strict=True):
        pool.publish(block, block_hash)
    pool.forget(blocks[:1])
    assert pool.find(named(2)) == []
    pool.free(blocks)
    pool.forget(blocks)
    assert pool.find(named(2)[1:]) == []
    pool.check([])


def test_freeing_twice_is_an_error() -> None:
    pool = BlockPool(num_blocks=4, block_size=4)
    blocks = pool.allocate(1)
    assert blocks is not None
    pool.free(blocks)
    with pytest.raises(RuntimeError, match="freed more often"):
        pool.free(blocks)


def test_check_sees_a_leak() -> None:
    pool = BlockPool(num_blocks=4, block_size=4)
    blocks = pool.allocate(2)
    assert blocks is not None
    with pytest.raises(RuntimeError, match="reference counts differ"):
        pool.check([blocks[:1]])


def test_hashes_tell_model_salt_tokens_and_ancestors_apart() -> None:
    tokens = list(range(8))
    base = [*hash_blocks(root_hash("m", "s"), tokens, 4)]
    assert len(base) == 2
    assert base == [*hash_blocks(root_hash("m", "s"), [*tokens, 99], 4)], "a part block has no name"
    assert base[1] == next(hash_blocks(base[0], tokens[4:], 4))
    others = [
        *hash_blocks(root_hash("m", "t"), tokens, 4),
        *hash_blocks(root_hash("n", "s"), tokens, 4),
        *hash_blocks(root_hash("ms", ""), tokens, 4),
        *hash_blocks(root_hash("m", "?"), tokens, 4),
        *hash_blocks(root_hash("m", "\ud800"), tokens, 4),
        *hash_blocks(root_hash("m", "\ud801"), tokens, 4),
        *hash_blocks(root_hash("m", "s"), [0, 1, 2, 4, 4, 5, 6, 7], 4),
    ]
    assert len({*base, *others}) == 16


class PoolMachine(RuleBasedStateMachine):
    """Rows come, share, grow and go in any order; the books balance after each move."""

    BLOCK_SIZE = 4

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=9, block_size=self.BLOCK_SIZE)
        self.rows: list[tuple[list[int], list[bytes]]] = []

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=20))
    def start(self, tokens: list[int]) -> None:
        hashes = [*hash_blocks(root_hash("m", ""), tokens, self.BLOCK_SIZE)]
        shared = self.pool.find(hashes)
        num_fresh = -(-len(tokens) // self.BLOCK_SIZE) - len(shared)
        available, needed = self.pool.num_available, self.pool.num_needed(shared, num_fresh)
        blocks = self.pool.allocate(num_fresh, shared)
        assert (blocks is None) == (needed > available)
        if blocks is not None:
            assert NULL_BLOCK not in blocks
            assert blocks[: len(shared)] == shared
            self.rows.append((blocks, hashes))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        blocks, hashes = data.draw(st.sampled_from(self.rows))
        for block, block_hash in zip(blocks, hashes, strict=False):
            self.pool.publish(block, block_hash)
        assert len(self.pool.find(hashes)) == len(hashes)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        blocks, _ = data.draw(st.sampled_from(self.rows))
        blocks += self.pool.allocate(1) or []

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        blocks, _ = self.rows.pop(data.draw(st.integers(0, len(self.rows) - 1)))
        self.pool.free(blocks)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def distrust(self, data: st.DataObject) -> None:
        blocks, hashes = data.draw(st.sampled_from(self.rows))
        self.pool.forget(blocks)
        assert not {*blocks} & {*self.pool.find(hashes)}

    @invariant()
    def the_books_balance(self) -> None:
        self.pool.check(blocks for blocks, _ in self.rows)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
