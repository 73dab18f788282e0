"""From logits to tokens. Knows sampling parameters and tensors, not where the logits came from.

Every choice of a row depends on that row alone: its logits, its parameters, its tokens, and a
random number that is a pure function of (seed, sample, place in the output). So tokens do not
change when a row is batched, preempted or chunked differently.

    raw logits -> logprobs
               -> grammar -> biases, allowed and bad -> penalties -> min_tokens
                    -> argmax                                                  (greedy)
                    -> temperature -> inverse CDF                              (no filter)
                    -> temperature -> top-k -> top-p -> min-p -> inverse CDF
"""

from collections.abc import Mapping, Sequence as Rows
from dataclasses import dataclass, field

import torch

from .drawing import draw, draw_filtered, uniforms
from .grammar import Matcher, mask_by_grammar
from .logprobs import token_logprobs
from .outputs import RequestError, TokenLogprobs
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
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int] | None = None
) -> SampledTokens:
    """Choose the next token of each sequence from its row of float32 `logits` [rows, vocab].

    `places` are the new tokens' places in their outputs: what each has generated, if not given.
    `logits` may be overwritten, unless this raises. Equally likely tokens: the lowest id wins.
    """
    if all(sequence.is_plain for sequence in sequences):
        best, token_ids = _likeliest(logits)
        return SampledTokens(token_ids.tolist(), _faults(best))
    if places is None:
        places = [sequence.num_generated for sequence in sequences]
    logprob_rows = [i for i, s in enumerate(sequences) if s.logprobs is not None]
    raw = logits[logprob_rows].clone() if logprob_rows else None
    changed_rows = [i for i, s in enumerate(sequences) if s.changes_logits]
    unchanged = logits[changed_rows]
    try:
        faults = _change(logits, sequences, places, changed_rows)
        token_ids, not_finite = _choose(logits, sequences, places)
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
    logits: torch.Tensor, sequences: Rows[Sequence], places: Rows[int]
) -> tuple[list[int], dict[int, RequestError]]:
    """Return each row's token, and the rows that have none."""
    best, chosen = _likeliest(logits)
    faults = _faults(best)
    random_rows = [
        i for i, s in enumerate(sequences) if i not in faults and not s.request.params.is_greedy
    ]
    if random_rows:
        chosen[random_rows] = _draw(logits, sequences, places, random_rows)
    return chosen.tolist(), faults


def _likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest logit of each row, NaN if there is one, and its token.

    On a CPU NumPy finds the place in a fifth of the time that PyTorch takes.
    """
    if logits.device.type != "cpu":
        best, token_ids = logits.max(dim=-1)
        return best, token_ids
    token_ids = torch.from_numpy(logits.numpy().argmax(axis=-1))
    return logits.gather(1, token_ids[:, None])[:, 0], token_ids


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
    device = logits.device
    chances = torch.from_numpy(
        uniforms([s.random_key for s in drawn_from], [places[row] for row in rows])
    ).to(device)
    temperatures = torch.tensor([p.temperature for p in params], device=device)
    tempered = (logits if len(rows) == len(logits) else logits[rows]) / temperatures[:, None]

    drawn = torch.empty(len(rows), dtype=torch.int64, device=device)
    filtered = [i for i, p in enumerate(params) if p.top_k or p.top_p < 1.0 or p.min_p]
    if filtered:
        drawn[filtered] = draw_filtered(
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
        drawn[free] = draw(tempered[free] if filtered else tempered, chances[free])
    return drawn


def _logprobs(
    raw: torch.Tensor, sequences: Rows[Sequence], rows: list[int], token_ids: list[int]
) -> dict[int, TokenLogprobs]:
    """Describe the choices of `rows` under the model's own distribution."""
    wanted = [sequences[row].request.params.logprobs or 0 for row in rows]
    return dict(
        zip(rows, token_logprobs(raw, [token_ids[row] for row in rows], wanted), strict=True)
    )
