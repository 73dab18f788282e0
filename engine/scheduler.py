"""Which sequences advance in the next step, and by how many tokens. Knows blocks, no tensors.

A sequence has tokens *known* and tokens *computed*; a step spends its token budget on the
difference, and there is no other notion of "prefill" or "decode":

    1. sequences that lack one token        everybody who is generating moves on
    2. urgent ones that lack more, or wait  a chat does not queue behind bulk prompts
    3. the others that lack more            prompts under way, in chunks of what is left
    4. the others that wait                 as `waiting` says; a few pass one that does not fit

Whoever is out of room takes it from the newest of the least urgent, who starts over later with
what it had generated, and finds most of its blocks still cached.

A step may be planned while the one before it is in flight: known is then also what that one will
bring, and what is given back is fenced until it has ended.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from operator import attrgetter

from .admission import Admission, Passes
from .block_pool import BlockPool
from .outputs import Priority
from .repeats import may_repeat, reserve_repeats
from .sequence import Sequence, SequenceStatus
from .shared_prefixes import SharedPrefixes
from .step import StepPart
from .turns import Turns
from .waiting import FIRST_BULK, WaitingQueue, is_urgent

_ORDER = attrgetter("order")
MAX_PROMPT_LOGITS = 1024  # rows of logits in a step, for what they tell of prompts


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
        self._prefixes = SharedPrefixes(pool, is_enabled=enable_prefix_caching)
        self._admission = Admission(pool)
        self._passes = Passes()
        self._turns = Turns()

        self._running: list[Sequence] = []  # sorted by order
        self._waiting = WaitingQueue(
            pool.block_size, self._max_num_bulk_seqs, self._admission.expected_output
        )
        self._plan: dict[Sequence, int] = {}
        self._num_prompt_logits = 0  # that the plan asks for
        self._num_launched = 0  # steps
        self._num_ended = 0
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
        return len(self._waiting)

    @property
    def num_in_flight(self) -> int:
        """Steps that have been launched and have not ended."""
        return self._num_launched - self._num_ended

    @property
    def must_look_first(self) -> bool:
        """Whether the next step is better planned once the one in flight has ended.

        That is so if a next choice depends on the one before, or somebody might be preempted, who
        would not leave his room at once.
        """
        return (
            self._pool.num_available < len(self._running)
            or self._waiting.has_urgent
            or not all(sequence.can_run_ahead for sequence in self._running)
        )

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its turn."""
        self._waiting.add(sequence)

    def schedule(self) -> dict[Sequence, int]:
        """Decide the next step: how many tokens each chosen sequence is to compute."""
        self._plan = {}
        self._num_prompt_logits = 0
        self._end_turn()
        self._passes.begin_step()
        prefilling = self._schedule_decodes()
        self._prefixes.begin_step(s for s in self._running if s.last_step > self._num_ended)
        urgent = [sequence for sequence in prefilling if is_urgent(sequence)]
        self._schedule_prefills(urgent)
        self._admit(urgent_only=True)
        self._schedule_prefills(prefilling[len(urgent) :])
        self._admit(urgent_only=False)
        self._begin_turn()
        return self._plan

    def launch(self, plan: dict[Sequence, int]) -> None:
        """Record that a plan is being computed from now on."""
        self._num_launched += 1
        for sequence, num_tokens in plan.items():
            sequence.num_pending += sequence.num_computed + num_tokens == sequence.num_known
            sequence.num_computed += num_tokens
            sequence.last_step = self._num_launched

    def end_step(self) -> None:
        """Record that the oldest step in flight has ended: what it could write to is free now."""
        self._num_ended += 1
        self._pool.release(self._num_ended)

    def reserve_repeats(self, plan: dict[Sequence, int], max_repeats: int) -> int:
        """Return how often a plan may be repeated before the next one, and take the blocks for it.

        Whoever waits could not start now, and whoever runs is in the plan, or it is once.
        """
        if len(plan) < len(self._running) or not may_repeat(plan):
            return 1
        return reserve_repeats(self._pool, plan, max_repeats)

    def repeat(self, sequences: Iterable[Sequence]) -> None:
        """Record that a step has computed one token more of some sequences."""
        for sequence in sequences:
            sequence.num_pending += 1
            if sequence.status is SequenceStatus.RUNNING:
                sequence.num_computed += 1

    def publish(self, parts: Iterable[StepPart]) -> None:
        """Let others find the blocks that a step has filled."""
        self._prefixes.publish(parts)

    def finish(self, sequence: Sequence) -> None:
        """Let a sequence go that came to its natural end, and learn from its length."""
        self._admission.learn(sequence)
        self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Let a sequence go, wherever it is; again is harmless.

        Its blocks are free at once, or with the end of the step that computes it.
        """
        if sequence.status is SequenceStatus.RUNNING:
            self._running.remove(sequence)
            self._release(sequence)
        elif sequence.status is SequenceStatus.WAITING:
            self._waiting.remove(sequence)
        sequence.status = SequenceStatus.FINISHED

    def distrust(self, sequence: Sequence) -> None:
        """Withdraw a faulty sequence's blocks from the prefix cache, so that it fails alone."""
        self._prefixes.forget(sequence)

    def check(self) -> None:
        """Verify the books; see `BlockPool.check`."""
        self._pool.check(sequence.block_table for sequence in self._running)
        if self._running != sorted(self._running, key=_ORDER):
            raise RuntimeError("the running sequences are out of order")
        self._waiting.check()
        if not self.num_in_flight and self._pool.num_fenced:
            raise RuntimeError(f"{self._pool.num_fenced} blocks are fenced, and no step is there")
        for sequence in self._running:
            if not sequence.num_pending <= self.num_in_flight:
                raise RuntimeError(f"{sequence.num_pending} tokens pend of a row in no such step")

    # -- the parts of a step ------------------------------------------------------------------

    def _schedule_decodes(self) -> list[Sequence]:
        """Plan every sequence that lacks one token; return those that lack more."""
        block_size = self._pool.block_size
        prefilling: list[Sequence] = []
        index = 0
        while index < len(self._running):  # which gets shorter from its end, by preemption
            sequence = self._running[index]
            index += 1
            num_known = len(sequence.token_ids) + sequence.num_pending
            num_missing = num_known - sequence.num_computed
            if num_missing > 1:
                prefilling.append(sequence)
            elif (
                num_missing == 1
                and num_known < sequence.max_num_tokens  # or else the last one is pending
                and not (sequence.num_pending and not sequence.can_run_ahead)
                and (num_known <= len(sequence.block_table) * block_size or self._grow(sequence))
            ):
                self._plan[sequence] = 1
        return prefilling

    def _schedule_prefills(self, prefilling: list[Sequence]) -> None:
        for sequence in prefilling:
            if not self._budget_left():
                break
            budget = self._budget_for(sequence)
            # Still running? Somebody urgent may have come.
            if budget and sequence.status is SequenceStatus.RUNNING:
                self._schedule_prefill(sequence, budget)

    def _schedule_prefill(self, sequence: Sequence, budget: int) -> None:
        num_tokens = min(budget, sequence.num_known - sequence.num_computed)
        self._plan[sequence] = num_tokens
        if sequence.lacks_prompt_outputs:
            self._num_prompt_logits += num_tokens
        self._prefixes.expect(sequence)

    def _admit(self, *, urgent_only: bool) -> None:
        """Start as many of those who wait as there is room for, in their order."""
        held_back: list[Sequence] = []
        while sequence := self._waiting.peek():
            if urgent_only and not is_urgent(sequence):
                break
            if self._passes.is_exhausted:
                break
            if not self._budget_left() or len(held_back) > self._max_num_seqs:
                break
            if not self._may_start(sequence):
                break
            budget = self._budget_for(sequence)
            cached = self._prefixes.find(sequence)
            if (
                not budget
                or sequence.num_pending
                or self._prefixes.is_under_way(sequence, len(cached))
            ):
                held_back.append(self._waiting.pop())
                continue
            blocks = self._allocate(sequence, cached)
            if blocks is not None:
                self._waiting.pop()
                self._passes.count()
                self._start(sequence, blocks, num_cached=len(cached) * self._pool.block_size)
                self._schedule_prefill(sequence, budget)
            elif not is_urgent(sequence) and self._passes.look_past(sequence):
                held_back.append(self._waiting.pop())
            else:
                break
        for sequence in held_back:
            self._waiting.put_back(sequence)

    def _budget_left(self) -> int:
        return self._max_num_batched_tokens - sum(self._plan.values())

    def _budget_for(self, sequence: Sequence) -> int:
        """Return the tokens that it may compute, fewer where each brings logits."""
        budget = self._budget_left()
        if sequence.lacks_prompt_outputs:
            budget = min(budget, MAX_PROMPT_LOGITS - self._num_prompt_logits)
        return budget

    # -- admission ----------------------------------------------------------------------------

    def _has_slot(self, sequence: Sequence) -> bool:
        """Whether one more may run: of all, and of bulk rows, to which some slots are closed."""
        if len(self._running) >= self._max_num_seqs:
            return False
        return is_urgent(sequence) or self._num_bulk_running() < self._max_num_bulk_seqs

    def _may_start(self, sequence: Sequence) -> bool:
        """Whether there is a slot, or somebody to take it from."""
        return self._has_slot(sequence) or (is_urgent(sequence) and self._is_victim_there(sequence))

    def _allocate(self, sequence: Sequence, cached: list[int]) -> list[int] | None:
        """Take blocks for all that is known of a sequence; None while it had better wait.

        All of them at once, so that a preempted sequence cannot be back before somebody has ended:
        it needs what it gave, and whoever pushed it out has taken some. An urgent one takes a slot
        and blocks from others if need be.
        """
        block_size = self._pool.block_size
        num_fresh = -(-len(sequence.token_ids) // block_size) - len(cached)
        if not is_urgent(sequence):
            # The first bulk row need not fit to its end: there may never be a better time.
            is_alone = not self._num_bulk_running()
            num_cached = len(cached) * block_size
            if not is_alone and not self._admission.fits(sequence, num_cached, self._running):
                return None
            return self._pool.allocate(num_fresh, cached)
        while (
            not self._has_slot(sequence)
            or (blocks := self._pool.allocate(num_fresh, cached)) is None
        ):
            if self._pool.num_fenced or not self._is_victim_there(sequence):
                return None
            self._preempt(self._running[-1])
        return blocks

    def _num_bulk_running(self) -> int:
        return len(self._running) - bisect_left(self._running, FIRST_BULK, key=_ORDER)

    # -- turns --------------------------------------------------------------------------------

    def _begin_turn(self) -> None:
        oldest = self._waiting.peek()
        stands_still = oldest is not None and not self._does_bulk_move_on()
        if self._turns.is_due(stands_still=stands_still) and oldest is not None:
            if is_urgent(oldest) or self._num_bulk_running():
                return
            self._waiting.pop()
            self._turns.begin(oldest)
            self._waiting.put_back(oldest)

    def _end_turn(self) -> None:
        row = self._turns.end()
        if row is not None:
            self._running.remove(row)
            insort(self._running, row, key=_ORDER)

    def _does_bulk_move_on(self) -> bool:
        """Whether a bulk row gets a token in this step."""
        return any(
            sequence.num_computed + num_tokens == sequence.num_known
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
        """Add a block, preempting from the end of the line; False if that hit the sequence.

        What a step in flight keeps fenced is worth the wait: nobody is preempted meanwhile.
        """
        while (blocks := self._pool.allocate(1)) is None:
            if self._pool.num_fenced:
                return False
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
        self._waiting.put_back(sequence)
        self.num_preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self._pool.free(sequence.block_table, sequence.last_step)
        sequence.block_table = []
        sequence.num_computed = 0
        sequence.num_published = 0
