"""Log-probabilities of tokens under the model's own distribution, before any parameter.

Knows logits and token ids. Refuses to know whether the tokens were drawn or given.
"""

from collections.abc import Sequence as Rows

import torch

from .drawing import candidates
from .outputs import TokenLogprobs

_ROWS_AT_ONCE = 64  # of a large vocabulary, whose copies would cost more than the logits themselves


def token_logprobs(
    logits: torch.Tensor, token_ids: Rows[int], num_top: Rows[int]
) -> list[TokenLogprobs]:
    """Describe one token per row of float32 `logits` [rows, vocab], beside the `num_top` likeliest.

    Of equally likely tokens the lowest ids come first, and stay where not all are asked for.
    Equal to `log_softmax`, which is not made: of most tokens it would tell nobody.
    """
    records: list[TokenLogprobs] = []
    for begin in range(0, len(token_ids), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        records += _records(logits[part], token_ids[part], num_top[part])
    return records


def _records(logits: torch.Tensor, token_ids: Rows[int], num_top: Rows[int]) -> list[TokenLogprobs]:
    totals = torch.logsumexp(logits, dim=-1, keepdim=True)
    ids = torch.tensor(token_ids, device=logits.device)[:, None]
    of_tokens = (logits.gather(1, ids) - totals)[:, 0].tolist()
    values, top_ids = _likeliest(logits, min(max(num_top), logits.shape[-1]))
    tops = [
        [*zip(i, v, strict=True)]
        for i, v in zip(top_ids.tolist(), (values - totals).tolist(), strict=True)
    ]
    return [
        TokenLogprobs(token_id, logprob, tuple(top[:count]))
        for token_id, logprob, top, count in zip(token_ids, of_tokens, tops, num_top, strict=True)
    ]


def _likeliest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` largest logits of each row and their ids, the lowest among equals."""
    values, token_ids = candidates(logits, count)
    if not 0 < count < logits.shape[-1]:
        return values, token_ids
    border = values[:, -1:]
    for row in torch.nonzero((logits >= border).sum(-1) > count).flatten().tolist():
        num_above = int((values[row] > border[row]).sum())
        equals = torch.nonzero(logits[row] == border[row]).flatten()
        token_ids[row, num_above:] = equals[: count - num_above]
    return values, token_ids
