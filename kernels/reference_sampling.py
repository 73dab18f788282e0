"""From logits to tokens in plain PyTorch: the specification of sampling on a GPU.

Knows tensors with a line for each running row, and steps that name lines; -1 is padding, which
gets token 0. Refuses to know sequences and their parameters (`engine/sampler.py`). A logit that is
not a number makes its row's best score infinite, which is how a faulty row is told from a sound one
without another look at the logits.

Draws: `words(key, place)` is the number from which `engine.drawing` makes its uniform; here it keys
a hash over token ids, which gives each token a Gumbel number of its own. So a draw is the same
function's of (key, place), whatever the batch, but not the same token as the inverse of the
cumulated distribution gives: a device has one of the two ways, and uses it everywhere.
"""

from dataclasses import dataclass

import torch

GOLDEN_64 = 0x9E3779B97F4A7C15
_GOLDEN_32 = 0x9E3779B9
_MASK_32 = 2**32 - 1
_EVERY_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Chances:
    """How rows draw, a line for each.

    Attributes:
        temperatures: float32 [lines]; 0 takes the likeliest token, the lowest id among equals, and
            goes with no filter.
        keys: int64 [lines], the rows' random keys.
        top_k: int32 [lines], 0 for no limit.
        top_p: float32 [lines], 1 for none.
        min_p: float32 [lines], 0 for none.
    """

    temperatures: torch.Tensor
    keys: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    def __getitem__(self, lines: torch.Tensor) -> "Chances":
        """Return what rows on `lines` have, a line for each row; padding takes the likeliest."""
        line, is_real = lines.clamp(min=0).long(), lines >= 0
        return Chances(
            self.temperatures[line].where(is_real, 0.0),
            self.keys[line].where(is_real, 0),
            self.top_k[line].where(is_real, 0),
            self.top_p[line].where(is_real, 1.0),
            self.min_p[line].where(is_real, 0.0),
        )

    @property
    def have_filter(self) -> torch.Tensor:
        """Bool [lines]: which rows draw from a part of the vocabulary."""
        return (self.top_k > 0) | (self.top_p < 1.0) | (self.min_p > 0.0)


@dataclass(frozen=True, slots=True)
class Kept:
    """Which tempered logits x a filter leaves of each row: x > lowest, or x == lowest up to an id.

    Attributes:
        lowest: float32 [R].
        last_id: int32 [R].
    """

    lowest: torch.Tensor
    last_id: torch.Tensor


def words(keys: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return int64 [R]: SplitMix64's output (Steele, Lea and Flood 2014) number `place`."""
    state = keys + places.long() * _signed(GOLDEN_64)
    state = (state ^ shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ shifted(state, 31)


def gumbel(keys: torch.Tensor, places: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return float32 [R, vocab]: a Gumbel number for each token, hashed from the row's word.

    -log(-log(1 - u)); small u, which make the large numbers that win, keep their precision.
    """
    word = words(keys, places)[:, None]
    token_ids = torch.arange(vocab_size, device=keys.device)[None, :]
    mixed = _mix_32((token_ids * _GOLDEN_32 + (word & _MASK_32)) & _MASK_32)
    mixed = _mix_32(mixed ^ (shifted(word, 32) & _MASK_32))
    chance = ((mixed.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    waiting = torch.where(chance < 2.0**-8, chance + chance * chance / 2, -torch.log(1 - chance))
    return -torch.log(waiting)


def scores(
    logits: torch.Tensor,
    lines: torch.Tensor,
    places: torch.Tensor,
    chances: Chances,
    kept: Kept | None = None,
) -> torch.Tensor:
    """Return float32 [R, vocab], whose largest entry of each row is the token to take.

    The Gumbel-max trick: the token with the largest x + g is drawn with chance softmax(x) (Gumbel
    1954; Maddison 2014).
    """
    rows = chances[lines]
    tempered = _tempered(logits, rows)
    noised = tempered + gumbel(rows.keys, places[lines.clamp(min=0)], logits.shape[1])
    found = torch.where((rows.temperatures == 0)[:, None], tempered, noised)
    if kept is not None:
        token_ids = torch.arange(logits.shape[1], device=logits.device)
        is_equal = (tempered == kept.lowest[:, None]) & (token_ids <= kept.last_id[:, None])
        found = found.where((tempered > kept.lowest[:, None]) | is_equal, -torch.inf)
    return found.where(~logits.isnan(), torch.inf)


def sample(
    logits: torch.Tensor,
    lines: torch.Tensor,
    places: torch.Tensor,
    chances: Chances,
    kept: Kept | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int64 [R] tokens and float32 [R] scores; a row is sound if its score is finite.

    Args:
        logits: [R, vocab].
        lines: int32 [R].
        places: int32 [lines], where in its output each line's next token goes.
        chances: see there.
        kept: what filters leave.
    """
    best, token_ids = scores(logits, lines, places, chances, kept).max(dim=-1)
    return token_ids.where(lines >= 0, 0), best.where(lines >= 0, 0.0)


def keep_likeliest(logits: torch.Tensor, lines: torch.Tensor, chances: Chances) -> Kept:
    """Return what top-k, then top-p of what that leaves, then min-p keep: [R] each.

    Tokens stand in order of falling logit, then rising id. The first is always kept.
    """
    rows = chances[lines]
    top_k, top_p = rows.top_k[:, None], rows.top_p[:, None]
    values, token_ids = torch.sort(_tempered(logits, rows), dim=-1, descending=True, stable=True)
    weights = torch.exp((values - values[:, :1]).double())
    numbers = torch.arange(values.shape[1], device=values.device)
    kept = (top_k == 0) | (numbers < top_k)
    mass = (weights * kept).cumsum(-1)
    before = mass - weights * kept
    kept &= (before < top_p * mass[:, -1:]) | (top_p >= 1.0)
    kept &= weights >= rows.min_p[:, None]
    kept[:, 0] = True
    last = kept.sum(-1, keepdim=True) - 1
    lowest = values.gather(1, last)[:, 0].where(rows.have_filter, -torch.inf)
    last_id = token_ids.gather(1, last)[:, 0].where(rows.have_filter, _EVERY_ID)
    return Kept(lowest, last_id.int())


def top_logprobs(
    logits: torch.Tensor,
    lines: torch.Tensor,
    chosen: torch.Tensor,
    num_top: torch.Tensor,
    most: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the log-probabilities of `chosen`, int64 [R], and of the likeliest tokens.

    Args:
        logits: [R, vocab].
        lines: int32 [R].
        chosen: int64 [R].
        num_top: int32 [lines], how many of the likeliest a row wants; -1 for nothing at all.
        most: no row wants more.

    Returns:
        float32 [R]; float32 [R, most], falling, the lowest id first among equals; int64 ids. What
        nobody wants is not to be read.
    """
    logits = logits.float()
    totals = torch.logsumexp(logits, dim=-1, keepdim=True)
    values, token_ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    of_chosen = (logits.gather(1, chosen[:, None]) - totals)[:, 0]
    return of_chosen, (values - totals)[:, :most], token_ids[:, :most]


def shifted(number: torch.Tensor, places: int) -> torch.Tensor:
    """Shift int64 right as if it had no sign."""
    return (number >> places) & (2 ** (64 - places) - 1)


def _tempered(logits: torch.Tensor, rows: Chances) -> torch.Tensor:
    return logits.float() / rows.temperatures.where(rows.temperatures != 0, 1.0)[:, None]


def _mix_32(number: torch.Tensor) -> torch.Tensor:
    """Mix 32 bits kept in int64 (`lowbias32` of Wellons, "Prospecting for Hash Functions")."""
    number = (number ^ (number >> 16)) * 0x7FEB352D & _MASK_32
    number = (number ^ (number >> 15)) * 0x846CA68B & _MASK_32
    return number ^ (number >> 16)


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
