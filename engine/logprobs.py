"""Log-probabilities of tokens under the model's own distribution, before any parameter.

Knows logits and token ids. Refuses to know whether the tokens were drawn or given.
"""

from collections.abc import Sequence as Rows

import torch

from .outputs import TokenLogprobs

_ROWS_AT_ONCE = 64  # of a large vocabulary, whose copies would cost more than the logits themselves


def token_logprobs(
    logits: torch.Tensor, token_ids: Rows[int], num_top: Rows[int]
) -> list[TokenLogprobs]:
    """Describe one token per row of float32 `logits` [rows, vocab], beside the `num_top` likeliest.

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
    values, top_ids = torch.topk(logits, min(max(num_top), logits.shape[-1]), dim=-1)
    tops = [
        [*zip(i, v, strict=True)]
        for i, v in zip(top_ids.tolist(), (values - totals).tolist(), strict=True)
    ]
    return [
        TokenLogprobs(token_id, logprob, tuple(top[:count]))
        for token_id, logprob, top, count in zip(token_ids, of_tokens, tops, num_top, strict=True)
    ]
