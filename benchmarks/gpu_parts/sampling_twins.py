"""The kernels between logits and tokens against their twins, over whole vocabularies."""

import torch
from comparing import Case, poisoned, worst
from part import Part

from penstock.kernels import (
    reference_logits,
    reference_sampling,
    triton_filters,
    triton_history,
    triton_logits,
    triton_logprobs,
    triton_sampling,
)
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.reference_logits import History, Penalties, Rules
from penstock.kernels.reference_sampling import Chances, Kept


def chances(rows: int) -> Chances:
    """Every fourth row takes the likeliest, every other one has top-k, all have top-p and min-p."""
    temperatures = torch.rand(rows) + 0.2
    temperatures[::4] = 0
    odd = torch.arange(rows) % 2
    return Chances(
        temperatures,
        torch.randint(-(2**62), 2**62, (rows,)),
        (torch.randint(0, 60, (rows,)) * odd * (temperatures > 0)).int(),
        (0.4 + 0.6 * torch.rand(rows)).where(temperatures > 0, 1.0),
        (0.02 * torch.rand(rows)).where(temperatures > 0, 0.0),
    )


def sampling(part: Part) -> Case:
    rows, vocab = (4, 5000) if part.tiny else (64, 151936)
    logits, lines = 3 * torch.randn(rows, vocab), torch.randperm(rows).int()
    places, limits = (torch.arange(rows) * 77).int(), chances(rows)
    with poisoned():
        kept = triton_filters.keep_likeliest(logits, lines, limits)
        tokens, _ = triton_sampling.sample(logits, lines, places, limits, kept)
        plain, _ = triton_sampling.sample(logits, lines, places, limits)
    expected = reference_sampling.keep_likeliest(logits, lines, limits)
    temperatures = limits[lines].temperatures
    tempered = logits / temperatures.where(temperatures != 0, 1.0)[:, None]
    # Sums of 150,000 weights round: the border of top-p may lie a few of the lightest tokens off.
    moved = (share_of(kept, tempered) - share_of(expected, tempered)).abs().max()
    pairs = []
    for drawn, limit in ((tokens, kept), (plain, None)):
        scores = reference_sampling.scores(logits, lines, places, limits, limit)
        pairs.append((scores.gather(1, drawn[:, None])[:, 0], scores.amax(-1)))
    found = worst(*pairs)
    return found | {"border_off": float(moved), "passed": found["passed"] and float(moved) < 1e-5}


def share_of(kept: Kept, tempered: torch.Tensor) -> torch.Tensor:
    """Return the probability of what is kept."""
    is_equal = tempered == kept.lowest[:, None]
    ids = torch.arange(tempered.shape[1])
    is_kept = (tempered > kept.lowest[:, None]) | is_equal & (ids <= kept.last_id[:, None])
    return (tempered.double().softmax(-1) * is_kept).sum(-1)


def logit_changes(part: Part) -> Case:
    rows, vocab = (3, 5000) if part.tiny else (64, 151936)
    lines, places = torch.randperm(rows).int(), torch.zeros(rows).int()
    lines[0] = -1
    penalties, rules, tables = penalties_of(rows), rules_of(rows, vocab), known_tokens(rows, vocab)
    raw = torch.randn(rows, vocab)
    changed, counted = [], []
    for kernels in ((triton_history, triton_logits), (reference_logits, reference_logits)):
        histories, logit_kernels = kernels
        history = History(
            torch.zeros(rows + 1, vocab).int(), torch.arange(rows).int(),
            torch.full((rows,), -1).int(), torch.full((rows,), 20).int(),
        )  # fmt: skip
        logits = raw.clone()
        histories.record(history, lines, tables)
        histories.penalise(logits, lines, history, penalties)
        logit_kernels.adjust(logits, lines, places, rules)
        logit_kernels.allow(logits, lines, rules)
        changed.append(logits)
        counted.append(history.counts[:-1])
    chosen, num_top = torch.randint(0, vocab, (rows,)), torch.full((rows,), 20).int()
    asked = (3 * torch.randn(rows, vocab), lines, chosen, num_top, 20)
    with poisoned():
        found = triton_logprobs.top_logprobs(*asked)
    wanted = reference_sampling.top_logprobs(*asked)
    real = lines >= 0
    told = [(one[real], other[real]) for one, other in zip(found, wanted, strict=True)]
    return worst((counted[0], counted[1]), (changed[0], changed[1]), *told)


def penalties_of(rows: int) -> Penalties:
    repetition = 0.5 + torch.rand(rows)
    return Penalties(repetition, 1 / repetition, torch.rand(rows), torch.rand(rows))


def rules_of(rows: int, vocab: int) -> Rules:
    return Rules(
        bias_ids=torch.stack([torch.randperm(vocab)[:8] for _ in range(rows)]).int(),
        biases=torch.randn(rows, 8),
        num_biases=torch.randint(0, 9, (rows,)).int(),
        allowed=torch.randint(-(2**31), 2**31 - 1, (rows, vocab // 32)).int(),
        is_limited=(torch.arange(rows) % 2).int(),
        endings=torch.randint(0, vocab, (rows, 2)).int(),
        num_endings=torch.randint(0, 3, (rows,)).int(),
        min_tokens=torch.randint(0, 2, (rows,)).int(),
    )


def known_tokens(rows: int, vocab: int) -> RowTables:
    known = torch.full((rows,), 64).int()
    return RowTables(torch.randint(0, vocab, (rows, 80)).int(), known, known, known[:, None])


def main() -> None:
    part = Part.from_command_line()
    with part.device:
        part.attempt("sampling", lambda: sampling(part))
        part.attempt("penalties, bitmask, logprobs", lambda: logit_changes(part))


if __name__ == "__main__":
    main()
