"""From logits and a chance to a token: inverse CDF, under top-k, top-p and min-p if need be.

Knows tensors and numbers. Refuses to know rows, requests and what else was done to the logits.
"""

from collections.abc import Sequence as Rows

import numpy as np
import torch

_NUM_CANDIDATES = 1024  # a filter rarely keeps more; rows that do are sorted whole
_PAGE = 512  # columns that a large cumulated sum takes at a time


def uniforms(keys: Rows[int], counters: Rows[int]) -> np.ndarray:
    """Return float64 [rows] in [0, 1): number `counter` of the stream that `key` names.

    SplitMix64 (Steele, Lea and Flood 2014): state = key + counter * golden ratio, then mixed. No
    state is kept, so any number of any stream can be asked for again, in any order.
    """
    state = np.array(keys, dtype=np.uint64)
    state += np.array(counters, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)) * 2.0**-53


def draw(logits: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
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
    values, token_ids = _likeliest(logits, num_candidates)
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


def _likeliest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` largest logits of each row with their ids; equals in order of id."""
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
