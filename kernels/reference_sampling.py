"""From logits to tokens in plain PyTorch: the specification of sampling on a GPU.

Knows tensors with a row for each sequence. Refuses to know sequences and their parameters
(`engine/sampler.py`). A logit that is not a number makes its row's best score infinite, which is
how a faulty row is told from a sound one without another look at the logits.

Draws: `words(key, counter)` is the number from which `engine.sampler.uniforms` makes its uniform;
here it keys a hash over token ids, which gives each token a Gumbel number of its own. So a draw is
the same function's of (key, counter), whatever the batch, but not the same token as the inverse of
the cumulated distribution gives.
"""

from dataclasses import dataclass

import torch

GOLDEN_64 = 0x9E3779B97F4A7C15
_GOLDEN_32 = 0x9E3779B9
_MASK_32 = 2**32 - 1
_EVERY_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Kept:
    """Which tempered logits x a filter leaves of each row: x > lowest, or x == lowest up to an id.

    Attributes:
        lowest: float32 [R].
        last_id: int32 [R].
    """

    lowest: torch.Tensor
    last_id: torch.Tensor


@dataclass(frozen=True, slots=True)
class Penalties:
    """How much each row shuns what it has said, float32 [R] each; 1, 0 and 0 change nothing."""

    repetition: torch.Tensor
    frequency: torch.Tensor
    presence: torch.Tensor


def words(keys: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Return int64 [R]: SplitMix64's output (Steele, Lea and Flood 2014) number `counter`."""
    state = keys + counters * _signed(GOLDEN_64)
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def gumbel(keys: torch.Tensor, counters: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return float32 [R, vocab]: a Gumbel number for each token, hashed from the row's word.

    -log(-log(1 - u)); small u, which make the large numbers that win, keep their precision.
    """
    word = words(keys, counters)[:, None]
    token_ids = torch.arange(vocab_size, device=keys.device)[None, :]
    mixed = _mix_32((token_ids * _GOLDEN_32 + (word & _MASK_32)) & _MASK_32)
    mixed = _mix_32(mixed ^ (_shifted(word, 32) & _MASK_32))
    chance = ((mixed.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    waiting = torch.where(chance < 2.0**-8, chance + chance * chance / 2, -torch.log(1 - chance))
    return -torch.log(waiting)


def scores(
    logits: torch.Tensor,
    temperatures: torch.Tensor,
    keys: torch.Tensor,
    counters: torch.Tensor,
    kept: Kept | None = None,
) -> torch.Tensor:
    """Return float32 [R, vocab], whose largest entry of each row is the token to take.

    The Gumbel-max trick: the token with the largest x + g is drawn with chance softmax(x) (Gumbel
    1954; Maddison 2014). A temperature of 0 takes the likeliest token and asks for no filter.
    """
    is_greedy = (temperatures == 0)[:, None]
    tempered = logits.float() / temperatures.where(temperatures != 0, 1.0)[:, None]
    noised = tempered + gumbel(keys, counters, logits.shape[1])
    found = torch.where(is_greedy, tempered, noised)
    if kept is not None:
        token_ids = torch.arange(logits.shape[1], device=logits.device)
        is_equal = (tempered == kept.lowest[:, None]) & (token_ids <= kept.last_id[:, None])
        found = found.where((tempered > kept.lowest[:, None]) | is_equal, -torch.inf)
    return found.where(~logits.isnan(), torch.inf)


def sample(
    logits: torch.Tensor,
    temperatures: torch.Tensor,
    keys: torch.Tensor,
    counters: torch.Tensor,
    kept: Kept | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int64 [R] tokens and float32 [R] scores; a row is sound if its score is finite.

    Args:
        logits: [R, vocab].
        temperatures: float32 [R]; 0 takes the likeliest token, the lowest id among equals.
        keys: int64 [R], the rows' random keys.
        counters: int64 [R], the tokens' places in their outputs.
        kept: what filters leave.
    """
    best, token_ids = scores(logits, temperatures, keys, counters, kept).max(dim=-1)
    return token_ids, best


def keep_likeliest(
    logits: torch.Tensor,
    temperatures: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
) -> Kept:
    """Return what top-k, then top-p of what that leaves, then min-p keep: [R] each.

    Tokens stand in order of falling logit, then rising id. `top_k` is int32, 0 for no limit; a
    `top_p` of 1 and a `min_p` of 0 are none either. The first token is always kept.
    """
    tempered = logits.float() / temperatures.where(temperatures != 0, 1.0)[:, None]
    values, token_ids = torch.sort(tempered, dim=-1, descending=True, stable=True)
    weights = torch.exp((values - values[:, :1]).double())
    places = torch.arange(values.shape[1], device=values.device)
    kept = (top_k[:, None] == 0) | (places < top_k[:, None])
    mass = (weights * kept).cumsum(-1)
    before = mass - weights * kept
    kept &= (before < top_p[:, None] * mass[:, -1:]) | (top_p[:, None] >= 1.0)
    kept &= weights >= min_p[:, None]
    kept[:, 0] = True
    last = kept.sum(-1, keepdim=True) - 1
    is_limited = (top_k > 0) | (top_p < 1.0) | (min_p > 0.0)
    lowest = values.gather(1, last)[:, 0].where(is_limited, -torch.inf)
    last_id = token_ids.gather(1, last)[:, 0].where(is_limited, _EVERY_ID)
    return Kept(lowest, last_id.int())


def record(history: torch.Tensor, slots: torch.Tensor, token_ids: torch.Tensor) -> None:
    """Count generated tokens, int64 [R], in the rows' slots of `history`; slot -1 has none.

    `history` is int32 [slots, vocab]: twice the times that a row has generated the token, and one
    more if its prompt has it.
    """
    is_kept = slots >= 0
    two = torch.full_like(token_ids, 2, dtype=torch.int32)[is_kept]
    history.index_put_((slots[is_kept], token_ids[is_kept]), two, accumulate=True)


def record_prompt(history: torch.Tensor, slot: int, token_ids: torch.Tensor) -> None:
    """Forget what a slot holds, then mark the tokens of a prompt, int64 [N]."""
    history[slot] = 0
    history[slot, token_ids] = 1


def penalise(
    logits: torch.Tensor, history: torch.Tensor, slots: torch.Tensor, penalties: Penalties
) -> None:
    """Apply repetition, then frequency and presence penalties to float32 logits, in place."""
    for row, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        times = history[slot] // 2
        repetition = penalties.repetition[row]
        factor = torch.where(logits[row] > 0, 1.0 / repetition, repetition)
        logits[row] *= torch.where(history[slot] > 0, factor, 1.0)
        logits[row] -= penalties.frequency[row] * times + penalties.presence[row] * (times > 0)


def allow(logits: torch.Tensor, rows: torch.Tensor, bits: torch.Tensor) -> None:
    """Set to -inf, in place, what a grammar forbids.

    Args:
        logits: float32 [R, vocab].
        rows: int64 [G], the rows that have a grammar.
        bits: int32 [G, words]; bit t % 32 of word t // 32 allows token t, and tokens past the last
            word, which only fill up the vocabulary, are forbidden.
    """
    token_ids = torch.arange(logits.shape[1], device=logits.device)
    inside = token_ids < 32 * bits.shape[1]
    word = bits[:, (token_ids // 32).where(inside, 0)]
    allowed = inside & (((word >> (token_ids % 32)) & 1) == 1)
    logits[rows] = logits[rows].where(allowed, -torch.inf)


def top_logprobs(
    logits: torch.Tensor, chosen: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the log-probabilities of `chosen` [R] and of the `count` likeliest tokens.

    Returns:
        float32 [R]; float32 [R, count], falling, the lowest id first among equals; int64 ids.
    """
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, token_ids = torch.sort(logprobs, dim=-1, descending=True, stable=True)
    return logprobs.gather(1, chosen[:, None])[:, 0], values[:, :count], token_ids[:, :count]


def _mix_32(number: torch.Tensor) -> torch.Tensor:
    """Mix 32 bits kept in int64 (`lowbias32` of Wellons, "Prospecting for Hash Functions")."""
    number = (number ^ (number >> 16)) * 0x7FEB352D & _MASK_32
    number = (number ^ (number >> 15)) * 0x846CA68B & _MASK_32
    return number ^ (number >> 16)


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _shifted(number: torch.Tensor, places: int) -> torch.Tensor:
    """Shift int64 right as if it had no sign."""
    return (number >> places) & (2 ** (64 - places) - 1)
