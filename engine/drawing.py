"""How a device draws: on a CPU by the inverse of the cumulated distribution, else by Gumbel-max.

Knows tensors and numbers. Refuses to know rows, requests and what else was done to the logits.

Both follow the same distribution, and both draw by a pure function of (logits, key, place), but not
the same tokens from the same numbers. So a device has one of them, and every path to a token there
uses it: which path a row takes must not show. The inverse needs sums over the vocabulary that are
the same in any batch, cheap on a CPU; Gumbel-max needs one look at each logit and nothing stored,
but a hash and two logarithms for each, for which a CPU takes ten times as long.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from ..kernels.reference_sampling import Chances, shifted, words
from ..kernels.sampling_ops import SamplingOps, choose_sampling_ops

_NUM_CANDIDATES = 1024  # a filter rarely keeps more; rows that do are sorted whole
_PAGE = 512  # columns that a large cumulated sum takes at a time


class Draw(Protocol):
    """Chooses a token for each row."""

    def __call__(
        self,
        logits: torch.Tensor,
        lines: torch.Tensor,
        places: torch.Tensor,
        chances: Chances,
        *,
        has_filter: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return int64 [R] tokens and float32 [R]: a row is sound if its number is finite.

        Reads nothing back, and a row's token depends on that row alone.

        Args:
            logits: float32 [R, vocab].
            lines: int32 [R], the rows' lines in `chances`; -1 for padding.
            places: int32 [lines], where in its output each line's next token goes.
            chances: how the lines draw.
            has_filter: whether any of the rows may have a filter.
        """
        ...


def draw_on(device: torch.device) -> Draw:
    """Return the way in which a device draws."""
    if device.type == "cpu":
        return by_inverse_cdf
    return GumbelMax(choose_sampling_ops(device))


@dataclass(frozen=True, slots=True)
class GumbelMax:
    """The largest sum of a tempered logit and a number that its token was dealt; see `Draw`."""

    ops: SamplingOps

    def __call__(
        self,
        logits: torch.Tensor,
        lines: torch.Tensor,
        places: torch.Tensor,
        chances: Chances,
        *,
        has_filter: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Draw`."""
        kept = self.ops.keep_likeliest(logits, lines, chances) if has_filter else None
        return self.ops.sample(logits, lines, places, chances, kept)


def by_inverse_cdf(
    logits: torch.Tensor,
    lines: torch.Tensor,
    places: torch.Tensor,
    chances: Chances,
    *,
    has_filter: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose by the inverse of the cumulated distribution; see `Draw`.

    What a step that knows its rows on the host does for those that need it (`engine.sampler`), this
    does for all, and then takes what was asked for.
    """
    rows = chances[lines]
    best, token_ids = likeliest(logits)
    is_sound = torch.isfinite(best)
    safe = logits.where(is_sound[:, None], 0.0)
    tempered = safe / rows.temperatures.where(rows.temperatures > 0, 1.0)[:, None]
    numbers = uniforms(rows.keys, places[lines.clamp(min=0)])
    drawn = draw_unfiltered(tempered, numbers)
    if has_filter:
        filtered = draw_filtered(
            tempered,
            numbers,
            top_k=rows.top_k,
            top_p=rows.top_p,
            min_p=rows.min_p,
            num_candidates=logits.shape[-1],
        )
        drawn = torch.where(rows.have_filter, filtered, drawn)
    token_ids = torch.where(is_sound & (rows.temperatures > 0), drawn, token_ids)
    return token_ids.where(lines >= 0, 0), best.where(lines >= 0, 0.0)


def likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest logit of each row, NaN if there is one, and its token, the lowest of all.

    On a CPU NumPy finds the place in a fifth of the time that PyTorch takes.
    """
    if logits.device.type != "cpu":
        token_ids = logits.argmax(dim=-1)
    else:
        token_ids = torch.from_numpy(logits.numpy().argmax(axis=-1))
    return logits.gather(1, token_ids[:, None])[:, 0], token_ids


def uniforms(keys: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return float64 [R] in [0, 1): number `place` of the stream that `key`, int64, names.

    No state is kept, so any number of any stream can be asked for again, in any order.
    """
    return shifted(words(keys, places), 11).double() * 2.0**-53


def draw_unfiltered(logits: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Return int64 [rows]: a token of each row, drawn from the softmax of its logits."""
    weights = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    return _invert_cdf(weights, chances)


def draw_filtered(
    logits: torch.Tensor,
    chances: torch.Tensor,
    *,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    num_candidates: int = _NUM_CANDIDATES,
) -> torch.Tensor:
    """Draw under top-k, top-p and min-p, looking at the `num_candidates` likeliest tokens first.

    Candidates stand in order of falling logit, then rising id, and a row whose filters keep the
    last candidate, or an equal, is drawn again from all tokens: among those may be more equals, of
    lower ids. So the result does not depend on how many candidates there are.
    """
    vocab_size = logits.shape[-1]
    num_candidates = min(vocab_size, num_candidates)
    values, token_ids = candidates(logits, num_candidates)
    weights = torch.exp(values - values[:, :1])
    places = torch.arange(num_candidates, device=logits.device)
    kept = (top_k[:, None] == 0) | (places < top_k[:, None])

    # Top-p counts in shares of what top-k has left: of these candidates, or else of everything.
    everything = torch.exp(logits - values[:, :1]).sum(dim=-1, dtype=torch.float64)
    mass = torch.cumsum(weights * kept, dim=-1, dtype=torch.float64)
    total = torch.where(top_k > 0, mass[:, -1], everything)
    before = mass - weights * kept
    kept &= (before < top_p[:, None] * total[:, None]) | (top_p[:, None] >= 1.0)
    kept &= weights >= min_p[:, None]
    kept[:, 0] = True

    drawn = token_ids.gather(1, _invert_cdf(weights * kept, chances)[:, None])[:, 0]
    if num_candidates < vocab_size:
        last_kept = values.gather(1, kept.sum(dim=-1, keepdim=True) - 1)[:, 0]
        cut_off = torch.nonzero((last_kept == values[:, -1]) | (top_k > num_candidates)).flatten()
        if len(cut_off):
            drawn[cut_off] = draw_filtered(
                logits[cut_off],
                chances[cut_off],
                top_k=top_k[cut_off],
                top_p=top_p[cut_off],
                min_p=min_p[cut_off],
                num_candidates=vocab_size,
            )
    return drawn


def candidates(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` largest logits of each row with their ids; equals in order of id.

    Which of the equals of the last one are among them is not said.
    """
    if count == logits.shape[-1]:
        return torch.sort(logits, dim=-1, descending=True, stable=True)
    values, token_ids = torch.topk(logits, count, dim=-1)
    token_ids, by_id = torch.sort(token_ids, dim=-1)
    values, by_value = torch.sort(values.gather(1, by_id), dim=-1, descending=True, stable=True)
    return values, token_ids.gather(1, by_value)


def _invert_cdf(weights: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Return the column in which each row's cumulated weight passes `chance` of its total.

    A large vocabulary is cumulated page by page first, then inside the page that was hit.
    """
    num_rows, num_columns = weights.shape
    if num_columns <= 2 * _PAGE:
        targets = chances * weights.sum(dim=-1, dtype=torch.float64)
        return _pass_target(weights, targets)[0]
    pages = torch.nn.functional.pad(weights, (0, -num_columns % _PAGE)).view(num_rows, -1, _PAGE)
    totals = pages.sum(dim=-1, dtype=torch.float64)
    page, rest = _pass_target(totals, chances * totals.sum(dim=-1))
    offset, _ = _pass_target(pages[torch.arange(num_rows, device=page.device), page], rest)
    return page * _PAGE + offset


def _pass_target(weights: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first column at which the cumulated weight exceeds the target, and the rest."""
    cumulated = torch.cumsum(weights, dim=-1, dtype=torch.float64)
    total = cumulated[:, -1]
    # Kept below the total, the target is exceeded by a column that carries weight: a masked token
    # is never drawn.
    targets = torch.minimum(targets, torch.nextafter(total, torch.zeros_like(total)))
    column = torch.searchsorted(cumulated, targets[:, None], right=True)
    before = cumulated.gather(1, column) - weights.gather(1, column)
    return column[:, 0], targets - before[:, 0]
