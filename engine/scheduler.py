"""Which sequences advance in the next step, and by how many tokens. Knows blocks, no tensors.

A sequence has tokens *known* and tokens *computed*; a step spends its token budget on the
difference, and there is no other notion of "prefill" or "decode":

    1. sequences that lack one token        everybody who is generating moves on
    2. urgent ones that lack more, or wait  a chat does not queue behind bulk prompts
    3. the others that lack more            prompts under way, in chunks of what is left
    4. the others that wait                 in order of arrival

Whoever is out of room takes it from the newest of the least urgent, who starts over later with
what it had generated, and finds most of its blocks still cached.
"""

import heapq
from bisect import insort
from operator import attrgetter

from .block_pool import BlockPool
from .forecast import OutputForecast, peak_num_tokens
from .outputs import Priority
from .sequence import Sequence, SequenceStatus

_ORDER = attrgetter("order")
_FILL_TARGET = 0.97  # of the cache, at the foretold peak


class Scheduler:
    """Holds every living sequence, and is the only one to hand out and take back its blocks.

    A sequence alone always fits, because the engine refuses those longer than the pool; the most
    urgent one is never preempted for another. So every sequence ends, whatever else arrives.
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
        prefilling = self._schedule_decodes()
        urgent = [s for s in prefilling if s.request.priority <= Priority.INTERACTIVE]
        self._schedule_prefills(urgent)
        self._admit(max_priority=Priority.INTERACTIVE)
        self._schedule_prefills(prefilling[len(urgent) :])
        self._admit(max_priority=None)
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

    def _admit(self, *, max_priority: int | None) -> None:
        """Start as many of those who wait as there is room for, the most urgent first."""
        held_back: list[Sequence] = []
        while sequence := self._next_waiting():
            if max_priority is not None and sequence.request.priority > max_priority:
                break
            budget = self._budget_left()
            if not budget or len(held_back) > self._max_num_seqs or not self._has_slot(sequence):
                break
            cached = self._find_cached(sequence)
            if self._is_under_way(sequence, len(cached)):
                held_back.append(self._pop_waiting())
                continue
            blocks = self._allocate(sequence, cached)
            if blocks is None:
                break
            self._pop_waiting()
            self._start(sequence, blocks, num_cached=len(cached) * self._pool.block_size)
            self._schedule_prefill(sequence, budget)
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
        """Whether one more may run; an interactive sequence pushes a bulk one out if need be."""
        if sequence.request.priority > Priority.INTERACTIVE:
            return len(self._running) < self._max_num_bulk_seqs
        if len(self._running) == self._max_num_seqs:
            return self._preempt_less_urgent(sequence)
        return True

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
        it needs what it gave, and whoever pushed it out has taken some.
        """
        num_fresh = -(-len(sequence.token_ids) // self._pool.block_size) - len(cached)
        is_urgent = sequence.request.priority <= Priority.INTERACTIVE
        if not is_urgent and self._running and not self._fits_at_peak(sequence, cached):
            return None
        blocks = self._pool.allocate(num_fresh, cached)
        while blocks is None and is_urgent and self._preempt_less_urgent(sequence):
            blocks = self._pool.allocate(num_fresh, cached)
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

    def _remaining(self, sequence: Sequence) -> int:
        max_more = sequence.max_num_tokens - len(sequence.token_ids)
        return self._forecast.remaining(sequence.num_generated, max_more)

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

    def _preempt_less_urgent(self, sequence: Sequence) -> bool:
        """Preempt the newest of the least urgent; False if nobody is less urgent than this one."""
        if not self._running or self._running[-1].request.priority <= sequence.request.priority:
            return False
        self._preempt(self._running[-1])
        return True

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
