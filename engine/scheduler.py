"""Which sequences advance in the next step, and by how many tokens. Knows blocks, no tensors.

A sequence has tokens *known* and tokens *computed*; a step spends its token budget on the
difference, and there is no other notion of "prefill" or "decode":

    1. sequences that lack one token        everybody who is generating moves on
    2. urgent ones that lack more, or wait  a chat does not queue behind bulk prompts
    3. the others that lack more            prompts under way, in chunks of what is left
    4. the others that wait                 in order of arrival; a few pass one that does not fit

Whoever is out of room takes it from the newest of the least urgent, who starts over later with
what it had generated, and finds most of its blocks still cached.

Urgent ones may leave bulk rows no room, in a trickle that never ends. So every now and then the
oldest of those has a turn: it goes before everybody, for a few tokens.
"""

import heapq
from bisect import bisect_left, insort
from operator import attrgetter

from .block_pool import BlockPool
from .forecast import OutputForecast, peak_num_tokens
from .outputs import Priority
from .sequence import Sequence, SequenceStatus

_ORDER = attrgetter("order")
_FILL_TARGET = 0.97  # of the cache, at the foretold peak
_MAX_PASSES = 16  # of rows that start before one that came first and does not fit
_MAX_MISFITS = 2  # rows to look past in a step: each costs the time of a forecast
_PATIENCE_STEPS = 128  # in which bulk rows wait and none moves on, before the oldest has a turn
_TURN_TOKENS = 16  # generated in a turn; what urgent ones feel of it is this and one prompt
_TURN_PRIORITY = Priority.INTERACTIVE - 1
_FIRST_BULK = (Priority.INTERACTIVE + 1, 0)  # in order: whoever comes before this one is urgent


class Scheduler:
    """Holds every living sequence, and is the only one to hand out and take back its blocks.

    A sequence alone always fits, because the engine refuses those longer than the pool, and who
    comes first in order is never preempted. An urgent sequence stands behind no more than those
    that came before it. A bulk one that waits is passed only so often, then others end until it
    fits, and has a turn where that does not help. So every sequence ends, whatever else arrives,
    unless there is always an urgent one that waits.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        reserved_interactive_seqs: int = 0,
        enable_prefix_caching: bool = True,
    ) -> None:
        if max_num_seqs < 1 or max_num_batched_tokens < 1:
            raise ValueError(
                "max_num_seqs and max_num_batched_tokens must be at least 1, "
                f"got {max_num_seqs} and {max_num_batched_tokens}"
            )
        self._pool = pool
        self._max_num_batched_tokens = max_num_batched_tokens
        # One token for each running sequence always fits the budget, so nobody starves.
        self._max_num_seqs = min(max_num_seqs, max_num_batched_tokens)
        self._max_num_bulk_seqs = max(1, self._max_num_seqs - reserved_interactive_seqs)
        self._enable_prefix_caching = enable_prefix_caching
        self._forecast = OutputForecast()

        self._running: list[Sequence] = []  # sorted by order
        self._waiting: list[tuple[tuple[int, int], Sequence]] = []  # a heap; may hold finished ones
        self._num_waiting = 0
        self._plan: dict[Sequence, int] = {}
        self._under_way: set[bytes] = set()  # hashes of the blocks that the plan's prefills fill
        self._passed: Sequence | None = None  # the oldest that did not fit
        self._num_passes = 0  # rows that have started before it since
        self._num_idle_steps = 0  # in which bulk rows waited and none moved on
        self._turn: Sequence | None = None  # the bulk row that goes before everybody
        self._turn_end = 0  # generated tokens at which it is one of many again
        self.num_preemptions = 0
        self.num_prompt_tokens = 0  # of sequences that have started
        self.num_cached_tokens = 0  # those of them that the prefix cache held

    @property
    def num_running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for their first step, or for their next one after a preemption."""
        return self._num_waiting

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its turn."""
        heapq.heappush(self._waiting, (sequence.order, sequence))
        self._num_waiting += 1

    def schedule(self) -> dict[Sequence, int]:
        """Decide the next step: how many tokens each chosen sequence is to compute."""
        self._plan = {}
        self._under_way = set()
        self._end_turn()
        prefilling = self._schedule_decodes()
        urgent = [sequence for sequence in prefilling if _is_urgent(sequence)]
        self._schedule_prefills(urgent)
        self._admit(urgent_only=True)
        self._schedule_prefills(prefilling[len(urgent) :])
        self._admit(urgent_only=False)
        self._begin_turn()
        return self._plan

    def update(self, plan: dict[Sequence, int]) -> None:
        """Record that a plan's tokens have been computed, and let others find the full blocks."""
        block_size = self._pool.block_size
        for sequence, num_tokens in plan.items():
            sequence.num_computed += num_tokens
            num_full = sequence.num_computed // block_size
            if num_full > sequence.num_published and self._enable_prefix_caching:
                hashes = sequence.hash_full_blocks(block_size)
                for index in range(sequence.num_published, num_full):
                    self._pool.publish(sequence.block_table[index], hashes[index])
                sequence.num_published = num_full

    def finish(self, sequence: Sequence) -> None:
        """Let a sequence go that came to its natural end, and learn from its length."""
        self._forecast.observe(sequence.num_generated)
        self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Let a sequence go, wherever it is. Its blocks are free at once; again is harmless."""
        if sequence.status is SequenceStatus.RUNNING:
            self._running.remove(sequence)
            self._release(sequence)
        elif sequence.status is SequenceStatus.WAITING:
            self._num_waiting -= 1  # it leaves the heap when it surfaces
        sequence.status = SequenceStatus.FINISHED

    def distrust(self, sequence: Sequence) -> None:
        """Withdraw a faulty sequence's blocks from the prefix cache, so that it fails alone."""
        self._pool.forget(sequence.block_table)

    def check(self) -> None:
        """Verify the books; see `BlockPool.check`."""
        self._pool.check(sequence.block_table for sequence in self._running)
        if self._running != sorted(self._running, key=_ORDER):
            raise RuntimeError("the running sequences are out of order")
        num_waiting = sum(s.status is SequenceStatus.WAITING for _, s in self._waiting)
        if num_waiting != self._num_waiting:
            raise RuntimeError(f"{num_waiting} sequences wait, {self._num_waiting} were counted")

    # -- the parts of a step ------------------------------------------------------------------

    def _schedule_decodes(self) -> list[Sequence]:
        """Plan every sequence that lacks one token; return those that lack more."""
        block_size = self._pool.block_size
        prefilling: list[Sequence] = []
        index = 0
        while index < len(self._running):  # which gets shorter from its end, by preemption
            sequence = self._running[index]
            index += 1
            num_known = len(sequence.token_ids)
            if num_known - sequence.num_computed > 1:
                prefilling.append(sequence)
            elif num_known <= len(sequence.block_table) * block_size or self._grow(sequence):
                self._plan[sequence] = 1
        return prefilling

    def _schedule_prefills(self, prefilling: list[Sequence]) -> None:
        for sequence in prefilling:
            budget = self._budget_left()
            if not budget:
                break
            if sequence.status is SequenceStatus.RUNNING:  # still: somebody urgent may have come
                self._schedule_prefill(sequence, budget)

    def _schedule_prefill(self, sequence: Sequence, budget: int) -> None:
        self._plan[sequence] = min(budget, len(sequence.token_ids) - sequence.num_computed)
        self._under_way.update(sequence.block_hashes[sequence.num_published :])

    def _admit(self, *, urgent_only: bool) -> None:
        """Start as many of those who wait as there is room for, in their order."""
        held_back: list[Sequence] = []
        num_misfits = 0
        while sequence := self._next_waiting():
            if urgent_only and not _is_urgent(sequence):
                break
            if num_misfits and self._num_passes >= _MAX_PASSES:
                break
            budget = self._budget_left()
            if not budget or len(held_back) > self._max_num_seqs or not self._may_start(sequence):
                break
            cached = self._find_cached(sequence)
            if self._is_under_way(sequence, len(cached)):
                held_back.append(self._pop_waiting())
                continue
            blocks = self._allocate(sequence, cached)
            if blocks is not None:
                self._pop_waiting()
                self._num_passes += num_misfits > 0
                self._start(sequence, blocks, num_cached=len(cached) * self._pool.block_size)
                self._schedule_prefill(sequence, budget)
            elif num_misfits < _MAX_MISFITS and self._may_be_passed(sequence):
                num_misfits += 1
                held_back.append(self._pop_waiting())
            else:
                break
        for sequence in held_back:
            self.add(sequence)

    def _budget_left(self) -> int:
        return self._max_num_batched_tokens - sum(self._plan.values())

    # -- admission ----------------------------------------------------------------------------

    def _next_waiting(self) -> Sequence | None:
        while self._waiting and self._waiting[0][1].status is SequenceStatus.FINISHED:
            heapq.heappop(self._waiting)
        return self._waiting[0][1] if self._waiting else None

    def _pop_waiting(self) -> Sequence:
        self._num_waiting -= 1
        return heapq.heappop(self._waiting)[1]

    def _has_slot(self, sequence: Sequence) -> bool:
        """Whether one more may run: of all, and of bulk rows, to which some slots are closed."""
        if len(self._running) >= self._max_num_seqs:
            return False
        return _is_urgent(sequence) or self._num_bulk_running() < self._max_num_bulk_seqs

    def _may_start(self, sequence: Sequence) -> bool:
        """Whether there is a slot, or somebody to take it from."""
        return self._has_slot(sequence) or (
            _is_urgent(sequence) and self._is_victim_there(sequence)
        )

    def _may_be_passed(self, sequence: Sequence) -> bool:
        """Whether others may start before one that does not fit; every step asks the oldest first.

        A preempted one is not passed: it waits for the very room that it gave.
        """
        if _is_urgent(sequence) or sequence.num_generated:
            return False
        if self._passed is None or self._passed.status is not SequenceStatus.WAITING:
            self._passed, self._num_passes = sequence, 0
        return self._num_passes < _MAX_PASSES

    def _find_cached(self, sequence: Sequence) -> list[int]:
        """Find the blocks that need no computing; the last token always is, for its logits."""
        if not self._enable_prefix_caching:
            return []
        block_size = self._pool.block_size
        num_usable = (len(sequence.token_ids) - 1) // block_size
        return self._pool.find(sequence.hash_full_blocks(block_size)[:num_usable])

    def _is_under_way(self, sequence: Sequence, num_cached: int) -> bool:
        """Whether to wait for a neighbour that computes the next block anyway.

        So the samples of one request share its prompt, and a thousand prompts their preamble.
        Urgent ones never wait for others: those are not planned yet when their turn comes.
        """
        num_usable = (len(sequence.token_ids) - 1) // self._pool.block_size
        hashes = sequence.block_hashes[:num_usable]
        return num_cached < len(hashes) and hashes[num_cached] in self._under_way

    def _allocate(self, sequence: Sequence, cached: list[int]) -> list[int] | None:
        """Take blocks for all that is known of a sequence; None while it had better wait.

        All of them at once, so that a preempted sequence cannot be back before somebody has ended:
        it needs what it gave, and whoever pushed it out has taken some. An urgent one takes a slot
        and blocks from others if need be.
        """
        num_fresh = -(-len(sequence.token_ids) // self._pool.block_size) - len(cached)
        if not _is_urgent(sequence):
            # The first bulk row need not fit to its end: there may never be a better time.
            if self._num_bulk_running() and not self._fits_at_peak(sequence, cached):
                return None
            return self._pool.allocate(num_fresh, cached)
        while (
            not self._has_slot(sequence)
            or (blocks := self._pool.allocate(num_fresh, cached)) is None
        ):
            if not self._is_victim_there(sequence):
                return None
            self._preempt(self._running[-1])
        return blocks

    def _fits_at_peak(self, candidate: Sequence, cached: list[int]) -> bool:
        """Whether the cache is expected to hold the running sequences and this one to their end."""
        block_size = self._pool.block_size
        lengths = [len(sequence.token_ids) - sequence.num_cached for sequence in self._running]
        remaining = [self._remaining(sequence) for sequence in self._running]
        num_held = (self._pool.capacity - self._pool.num_available) * block_size
        num_shared = max(0, num_held - sum(lengths))  # prefixes whose first user has gone
        lengths.append(len(candidate.token_ids) - len(cached) * block_size)
        remaining.append(self._remaining(candidate))
        room = self._pool.capacity * block_size * _FILL_TARGET - num_shared
        if sum(lengths) + sum(remaining) <= room:
            return True
        return peak_num_tokens(lengths, remaining) <= room

    def _num_bulk_running(self) -> int:
        return len(self._running) - bisect_left(self._running, _FIRST_BULK, key=_ORDER)

    def _remaining(self, sequence: Sequence) -> int:
        max_more = sequence.max_num_tokens - len(sequence.token_ids)
        return self._forecast.remaining(sequence.num_generated, max_more)

    # -- turns --------------------------------------------------------------------------------

    def _begin_turn(self) -> None:
        """Let the oldest bulk row go first once bulk has stood still for long."""
        oldest = self._next_waiting()
        if oldest is None or self._does_bulk_move_on():
            self._num_idle_steps = 0
            return
        self._num_idle_steps += 1
        is_due = self._num_idle_steps > _PATIENCE_STEPS and self._turn is None
        if is_due and not _is_urgent(oldest) and not self._num_bulk_running():
            self._num_idle_steps = 0
            self._turn = self._pop_waiting()
            self._turn_end = oldest.num_generated + _TURN_TOKENS
            oldest.order = (_TURN_PRIORITY, oldest.order[1])
            self.add(oldest)

    def _end_turn(self) -> None:
        """Put a bulk row back among the others once it has generated what a turn allows."""
        row = self._turn
        if row is None:
            return
        if row.status is SequenceStatus.FINISHED:
            self._turn = None
        elif row.status is SequenceStatus.RUNNING and row.num_generated >= self._turn_end:
            self._turn = None
            self._running.remove(row)
            row.order = (row.request.priority, row.order[1])
            insort(self._running, row, key=_ORDER)

    def _does_bulk_move_on(self) -> bool:
        """Whether a bulk row gets a token in this step."""
        return any(
            sequence.num_computed + num_tokens == len(sequence.token_ids)
            for sequence, num_tokens in self._plan.items()
            if sequence.request.priority > Priority.INTERACTIVE
        )

    # -- blocks -------------------------------------------------------------------------------

    def _start(self, sequence: Sequence, blocks: list[int], num_cached: int) -> None:
        sequence.block_table = blocks
        sequence.num_computed = num_cached
        sequence.num_published = num_cached // self._pool.block_size
        if sequence.num_cached < 0:
            sequence.num_cached = num_cached
            self.num_prompt_tokens += sequence.num_prompt
            self.num_cached_tokens += num_cached
        sequence.status = SequenceStatus.RUNNING
        insort(self._running, sequence, key=_ORDER)

    def _grow(self, sequence: Sequence) -> bool:
        """Add a block, preempting from the end of the line; False if that hit the sequence."""
        while (blocks := self._pool.allocate(1)) is None:
            victim = self._running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.block_table += blocks
        return True

    def _is_victim_there(self, sequence: Sequence) -> bool:
        """Whether the newest of the least urgent is less urgent than this one."""
        return bool(self._running) and self._running[-1].order[0] > sequence.order[0]

    def _preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to wait, to be computed again: it keeps its tokens."""
        self._running.remove(sequence)
        self._plan.pop(sequence, None)
        self._release(sequence)
        sequence.status = SequenceStatus.WAITING
        self.add(sequence)
        self.num_preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self._pool.free(sequence.block_table)
        sequence.block_table = []
        sequence.num_computed = 0
        sequence.num_published = 0


def _is_urgent(sequence: Sequence) -> bool:
    """Whether it goes before bulk rows, by its priority or because it is its turn."""
    return sequence.order < _FIRST_BULK
