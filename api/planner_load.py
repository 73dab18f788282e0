"""What many equal rows cost at each size of the batch. Knows a roofline; refuses to know memory.

One turn of a batch of B rows, as the engine's steps come to:

    prompts of B rows, in chunks | decode | decode | .. | decode      answer tokens - 1 times

so B rows need `turn_s`, a token of a row comes every `turn_s / answer_tokens`, and by Little's law
the B rows that are under way are those that end in a second times the seconds each stays.
"""

from dataclasses import dataclass

from .planner_memory import BLOCK_TOKENS
from .planner_roofline import Roofline, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Rows of equal length.

    Attributes:
        prompt_tokens, answer_tokens: of each row.
        shared_tokens: how many tokens at the beginning of all prompts are the same.
    """

    num_rows: int
    prompt_tokens: int
    answer_tokens: int
    shared_tokens: int = 0

    def __post_init__(self) -> None:
        """Check everything."""
        for name in ("num_rows", "prompt_tokens", "answer_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.shared_tokens < self.prompt_tokens:
            raise ValueError(
                "shared_tokens must be from 0 to prompt_tokens - 1, as a prompt's last token is "
                f"its own, got {self.shared_tokens} of {self.prompt_tokens}"
            )

    @property
    def row_tokens(self) -> int:
        """Tokens of a row at its end."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def cached_tokens(self) -> int:
        """Tokens of a prompt that are found in the cache: whole blocks of the common prefix."""
        return self.shared_tokens // BLOCK_TOKENS * BLOCK_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """A batch of so many rows, at the roofline.

    Attributes:
        decode: one decode step, the answers being half written.
        row_prefill_s: a row's share of the steps that compute prompts.
        turn_s: what all rows of the batch take from their first token to their last.
        ttft_s: to the first token of a row that comes while the batch is full: the step that it
            misses, and the one that computes its prompt beside the others' tokens.
        itl_s: between two tokens of a row, others' prompts included.
    """

    batch: int
    decode: Step
    row_prefill_s: float
    turn_s: float
    ttft_s: float
    itl_s: float
    rows_per_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Rows on one device.

    Attributes:
        step_tokens: tokens in one step at most.
        reads_shared_once: whether rows that share a prefix read its keys once for all.
    """

    roofline: Roofline
    work: Work
    step_tokens: int
    reads_shared_once: bool

    @property
    def prefill(self) -> Step:
        """One step full of prompts' tokens; less if there are no more."""
        own = self.work.prompt_tokens - self.work.cached_tokens
        rows = min(self.step_tokens / own, self.work.num_rows)
        return self._prompts(rows)

    def at(self, batch: int) -> BatchCost:
        """Return what a batch of that size costs."""
        work = self.work
        own = work.prompt_tokens - work.cached_tokens
        rows_at_once = min(self.step_tokens / own, work.num_rows)
        row_prefill_s = self.prefill.seconds / rows_at_once
        decode = self._decode(batch)
        turn_s = batch * row_prefill_s + (work.answer_tokens - 1) * decode.seconds
        return BatchCost(
            batch=batch,
            decode=decode,
            row_prefill_s=row_prefill_s,
            turn_s=turn_s,
            ttft_s=2 * decode.seconds + self._prompts(1).seconds,
            itl_s=turn_s / work.answer_tokens,
            rows_per_s=batch / turn_s,
            tokens_per_s=batch * work.answer_tokens / turn_s,
        )

    def _prompts(self, num_rows: float) -> Step:
        work, shape = self.work, self.roofline.shape
        seen = shape.seen_between(work.cached_tokens, work.prompt_tokens)
        own = work.prompt_tokens - work.cached_tokens
        return self.roofline.prefill(num_rows * own, num_rows * seen, num_rows)

    def _decode(self, batch: int) -> Step:
        work, shape = self.work, self.roofline.shape
        cached = shape.seen_between(work.prompt_tokens, work.row_tokens) / work.answer_tokens
        in_all = batch * cached
        if self.reads_shared_once:
            in_all -= (batch - 1) * shape.shared_tokens(work.cached_tokens)
        return self.roofline.decode(batch, in_all)


def largest_batch(
    load: Load, most: int, *, ttft_s: float | None, itl_s: float | None, share: float
) -> int | None:
    """Return the largest batch up to `most` that keeps both times; None if not even one row does.

    `share` is what is reached of the roofline. Both times grow with the batch.
    """

    def keeps(batch: int) -> bool:
        cost = load.at(batch)
        in_time = ttft_s is None or cost.ttft_s / share <= ttft_s
        return in_time and (itl_s is None or cost.itl_s / share <= itl_s)

    if most < 1 or not keeps(1):
        return None
    low, high = 1, most + 1  # low does, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low
