"""From logits to tokens. Knows sampling parameters and tensors, not where the logits came from.

Every choice of a row depends on that row alone: its logits, its parameters, its tokens, and a
random number that is a pure function of (seed, sample, place in the output). So tokens do not
change when a row is batched, preempted or chunked differently.

    raw logits -> logprobs
               -> min_tokens mask -> penalties -> argmax                        (greedy)
                                               -> temperature -> inverse CDF    (no filter)
                                               -> ... -> top-k -> top-p -> min-p -> inverse CDF
"""

from collections import Counter
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
import torch

from .outputs import TokenLogprobs
from .sequence import Sequence

_NUM_CANDIDATES = 1024  # a filter rarely keeps more; rows that do are sorted whole
_PAGE = 512  # columns that a large cumulated sum takes at a time


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """What a step chose, one entry per row of logits.

    Attributes:
        token_ids: the chosen tokens.
        faulty: rows whose logits are not numbers; their token means nothing.
        logprobs: for rows that asked for them.
    """

    token_ids: list[int]
    faulty: frozenset[int]
    logprobs: dict[int, TokenLogprobs]


@torch.inference_mode()
def sample(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int] | None = None
) -> SampledTokens:
    """Choose the next token of each sequence from its row of float32 `logits` [rows, vocab].

    `places` are the new tokens' places in their outputs: what each has generated, if not given.
    `logits` may be overwritten, unless this raises. Equally likely tokens: the lowest id wins.
    """
    if all(sequence.is_plain for sequence in sequences):
        best, token_ids = logits.max(dim=-1)
        return SampledTokens(token_ids.tolist(), _faulty_rows(best), {})
    if places is None:
        places = [sequence.num_generated for sequence in sequences]
    logprob_rows = [i for i, s in enumerate(sequences) if s.logprobs is not None]
    raw = logits[logprob_rows].clone() if logprob_rows else None
    changed_rows = [i for i, s in enumerate(sequences) if s.is_penalised or s.masked_token_ids]
    unchanged = logits[changed_rows]
    try:
        _mask_endings(logits, sequences, places)
        _penalise(logits, sequences)
        token_ids, faulty = _choose(logits, sequences, places)
        logprobs = {} if raw is None else _logprobs(raw, sequences, logprob_rows, token_ids)
    except BaseException:
        logits[changed_rows] = unchanged
        raise
    return SampledTokens(token_ids, faulty, logprobs)


def _choose(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int]
) -> tuple[list[int], frozenset[int]]:
    """Return each row's token, and the rows whose logits are not numbers."""
    best, chosen = logits.max(dim=-1)
    faulty = _faulty_rows(best)
    random_rows = [
        i for i, s in enumerate(sequences) if i not in faulty and not s.request.params.is_greedy
    ]
    if random_rows:
        chosen[random_rows] = _draw(logits, sequences, places, random_rows)
    return chosen.tolist(), faulty


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


def _faulty_rows(best: torch.Tensor) -> frozenset[int]:
    """Rows whose largest logit is NaN (which every maximum passes on) or infinite."""
    finite = torch.isfinite(best)
    if bool(finite.all()):
        return frozenset()
    return frozenset(torch.nonzero(~finite).flatten().tolist())


def _mask_endings(logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int]) -> None:
    for row, (sequence, place) in enumerate(zip(sequences, places, strict=True)):
        masked = sequence.masked_token_ids
        if masked and place < sequence.request.params.min_tokens:
            inside = [token_id for token_id in masked if token_id < logits.shape[-1]]
            logits[row, inside] = -torch.inf


def _penalise(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    """Apply repetition (prompt and output), then frequency and presence penalties (output)."""
    for row, sequence in enumerate(sequences):
        if not sequence.is_penalised:
            continue
        params = sequence.request.params
        if params.repetition_penalty != 1.0:
            seen = torch.tensor(sorted({*sequence.token_ids}), device=logits.device)
            values = logits[row, seen]
            scale = torch.where(
                values > 0, 1.0 / params.repetition_penalty, params.repetition_penalty
            )
            logits[row, seen] = values * scale
        counts = Counter(sequence.token_ids[sequence.num_prompt :])
        if counts and (params.frequency_penalty or params.presence_penalty):
            repeated = torch.tensor([*counts], device=logits.device)
            times = torch.tensor([*counts.values()], dtype=logits.dtype, device=logits.device)
            logits[row, repeated] -= params.frequency_penalty * times + params.presence_penalty


def _draw(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int], rows: list[int]
) -> torch.Tensor:
    """Return int64 [rows]: tokens drawn from the tempered, filtered distribution of each row."""
    drawn_from = [sequences[row] for row in rows]
    params = [sequence.request.params for sequence in drawn_from]
    device = logits.device
    chances = torch.from_numpy(
        uniforms([s.random_key for s in drawn_from], [places[row] for row in rows])
    ).to(device)
    temperatures = torch.tensor([p.temperature for p in params], device=device)
    tempered = (logits if len(rows) == len(logits) else logits[rows]) / temperatures[:, None]

    drawn = torch.empty(len(rows), dtype=torch.int64, device=device)
    filtered = [i for i, p in enumerate(params) if p.top_k or p.top_p < 1.0 or p.min_p]
    if filtered:
        drawn[filtered] = _draw_filtered(
            tempered[filtered],
            chances[filtered],
            top_k=torch.tensor(
                [min(params[i].top_k, logits.shape[-1]) for i in filtered], device=device
            ),
            top_p=torch.tensor([params[i].top_p for i in filtered], device=device),
            min_p=torch.tensor([params[i].min_p for i in filtered], device=device),
        )
    free = sorted({*range(len(rows))}.difference(filtered))
    if free:
        unfiltered = tempered[free] if filtered else tempered
        weights = torch.exp(unfiltered - unfiltered.amax(dim=-1, keepdim=True))
        drawn[free] = _invert_cdf(weights, chances[free])
    return drawn


def _draw_filtered(
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
            drawn[cut_off] = _draw_filtered(
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


def _logprobs(
    raw: torch.Tensor, sequences: Rows[Sequence], rows: list[int], token_ids: list[int]
) -> dict[int, TokenLogprobs]:
    """Describe the choices of `rows` under the model's own distribution, before any parameter."""
    logprobs = torch.log_softmax(raw, dim=-1)
    chosen = [token_ids[row] for row in rows]
    of_chosen = logprobs[range(len(rows)), chosen].tolist()
    wanted = [sequences[row].request.params.logprobs or 0 for row in rows]
    values, ids = torch.topk(logprobs, min(max(wanted), raw.shape[-1]), dim=-1)
    tops = [[*zip(i, v, strict=True)] for i, v in zip(ids.tolist(), values.tolist(), strict=True)]
    return {
        row: TokenLogprobs(chosen[place], of_chosen[place], tuple(tops[place][: wanted[place]]))
        for place, row in enumerate(rows)
    }
