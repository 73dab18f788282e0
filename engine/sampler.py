"""From logits to tokens. Knows sampling parameters and tensors, not where the logits came from.

Every choice of a row depends on that row alone: its logits, its parameters, its tokens, and a
random number that is a pure function of (seed, sample, place in the output). So tokens do not
change when a row is batched, preempted or chunked differently.

    raw logits -> logprobs
               -> grammar -> biases, allowed and bad -> penalties -> min_tokens
                    -> the likeliest                                           (greedy)
                    -> temperature -> draw                                     (no filter)
                    -> temperature -> top-k -> top-p -> min-p -> draw

`engine.device_sampler` does the same without the host, and `engine.drawing` is where both draw: a
device has one way to draw, so tokens do not change with the path to them either.
"""

from collections.abc import Mapping, Sequence as Rows
from dataclasses import dataclass, field

import numpy as np
import torch

from .drawing import (
    Draw,
    by_inverse_cdf,
    draw_filtered,
    draw_on,
    draw_unfiltered,
    likeliest,
    uniforms,
)
from .grammar import Matcher, mask_by_grammar
from .logprobs import token_logprobs
from .outputs import RequestError, TokenLogprobs
from .sampling_tables import chances_of, drawing_lines, has_filter
from .sequence import Sequence

# A damaged block that the row shared may be to blame, so another time it may be well.
NOT_FINITE = RequestError(
    code="engine_error", message="the model's logits are not finite numbers", retryable=True
)
NO_TOKEN_LEFT = RequestError(
    code="invalid_request",
    message="sampling parameters leave no token to choose from: see logit_bias, bad_words, "
    "allowed_token_ids, structured_outputs and min_tokens",
)


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """What a step chose, one entry per row of logits.

    Attributes:
        token_ids: the chosen tokens.
        faults: why a row has none; its token means nothing.
        logprobs: for rows that asked for them.
    """

    token_ids: list[int]
    faults: Mapping[int, RequestError] = field(default_factory=dict)
    logprobs: Mapping[int, TokenLogprobs] = field(default_factory=dict)


@torch.inference_mode()
def sample(
    logits: torch.Tensor,
    sequences: Rows[Sequence],
    places: Rows[int] | None = None,
    draw: Draw | None = None,
) -> SampledTokens:
    """Choose the next token of each sequence from its row of float32 `logits` [rows, vocab].

    `places` are the new tokens' places in their outputs: what each has generated, if not given.
    `draw` is that of the logits' device, if not given.
    `logits` may be overwritten, unless this raises. Equally likely tokens: the lowest id wins.
    """
    draw = draw or draw_on(logits.device)
    if places is None:
        places = [sequence.num_generated for sequence in sequences]
    if all(sequence.is_plain for sequence in sequences):
        return SampledTokens(*_choose(logits, sequences, places, draw))
    logprob_rows = [i for i, s in enumerate(sequences) if s.logprobs is not None]
    raw = logits[logprob_rows].clone() if logprob_rows else None
    changed_rows = [i for i, s in enumerate(sequences) if s.changes_logits]
    unchanged = logits[changed_rows]
    try:
        faults = _change(logits, sequences, places, changed_rows)
        token_ids, not_finite = _choose(logits, sequences, places, draw)
        for place, row in enumerate(changed_rows):
            if row in not_finite and bool(torch.isfinite(unchanged[place].max())):
                not_finite[row] = faults.get(row, NO_TOKEN_LEFT)
        logprobs = {} if raw is None else _logprobs(raw, sequences, logprob_rows, token_ids)
    except BaseException:
        logits[changed_rows] = unchanged
        raise
    return SampledTokens(token_ids, not_finite, logprobs)


def _change(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int], rows: list[int]
) -> dict[int, RequestError]:
    """Let parameters but those of chance act on the logits, and return what went wrong."""
    matchers: dict[int, Matcher] = {}
    for row in rows:
        matcher = sequences[row].matcher
        if matcher is not None:
            matchers[row] = matcher
    faults = mask_by_grammar(logits, matchers) if matchers else {}
    for row in rows:
        sequence = sequences[row]
        params = sequence.request.params
        if sequence.rules is not None:
            sequence.rules.apply(logits[row], sequence.token_ids, places[row])
        if sequence.history is not None:
            sequence.history.penalise(logits[row], params)
        if sequence.rules is not None and places[row] < params.min_tokens:
            sequence.rules.hold_back_endings(logits[row], unless_alone=row in matchers)
    return faults


def _choose(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int], draw: Draw
) -> tuple[list[int], dict[int, RequestError]]:
    """Return each row's token, and the rows that have none."""
    if draw is not by_inverse_cdf:
        return _choose_at_once(logits, sequences, places, draw)
    best, chosen = likeliest(logits)
    faults = _faults(best)
    random_rows = [
        i for i, s in enumerate(sequences) if i not in faults and not s.request.params.is_greedy
    ]
    if random_rows:
        chosen[random_rows] = _draw(logits, sequences, places, random_rows)
    return chosen.tolist(), faults


def _choose_at_once(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int], draw: Draw
) -> tuple[list[int], dict[int, RequestError]]:
    """Do as `_choose` does, all rows at once: on a GPU a launch costs more than a row."""
    device = logits.device
    token_ids, best = draw(
        logits,
        torch.arange(len(sequences), dtype=torch.int32, device=device),
        torch.tensor(places, dtype=torch.int32, device=device),
        chances_of(drawing_lines(sequences).to(device)),
        has_filter=any(has_filter(sequence.request.params) for sequence in sequences),
    )
    return token_ids.tolist(), _faults(best)


def _faults(best: torch.Tensor) -> dict[int, RequestError]:
    """Find rows whose largest logit is NaN (which every maximum passes on) or infinite."""
    finite = torch.isfinite(best)
    if bool(finite.all()):
        return {}
    return dict.fromkeys(torch.nonzero(~finite).flatten().tolist(), NOT_FINITE)


def _draw(
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int], rows: list[int]
) -> torch.Tensor:
    """Return int64 [rows]: tokens drawn from the tempered, filtered distribution of each row."""
    drawn_from = [sequences[row] for row in rows]
    params = [sequence.request.params for sequence in drawn_from]
    keys = np.array([sequence.random_key for sequence in drawn_from], dtype=np.uint64)
    numbers = uniforms(
        torch.from_numpy(keys.view(np.int64)), torch.tensor([places[row] for row in rows])
    )
    temperatures = torch.tensor([p.temperature for p in params])
    tempered = (logits if len(rows) == len(logits) else logits[rows]) / temperatures[:, None]

    drawn = torch.empty(len(rows), dtype=torch.int64)
    filtered = [i for i, p in enumerate(params) if has_filter(p)]
    if filtered:
        drawn[filtered] = draw_filtered(
            tempered[filtered],
            numbers[filtered],
            top_k=torch.tensor([params[i].top_k for i in filtered]),
            top_p=torch.tensor([params[i].top_p for i in filtered]),
            min_p=torch.tensor([params[i].min_p for i in filtered]),
        )
    free = sorted({*range(len(rows))}.difference(filtered))
    if free:
        drawn[free] = draw_unfiltered(tempered[free] if filtered else tempered, numbers[free])
    return drawn


def _logprobs(
    raw: torch.Tensor, sequences: Rows[Sequence], rows: list[int], token_ids: list[int]
) -> dict[int, TokenLogprobs]:
    """Describe the choices of `rows` under the model's own distribution."""
    wanted = [sequences[row].request.params.logprobs or 0 for row in rows]
    return dict(
        zip(rows, token_logprobs(raw, [token_ids[row] for row in rows], wanted), strict=True)
    )
