"""From logits to tokens with nothing read back: sampling for steps that stay on the device.

Knows tables with a line for each running row. Refuses to know steps, graphs and when anything is
copied to the host.

    host     place(line, sequence) -> take_staged() -> copies, by whoever launches steps
    device   sample(logits, lines, needs) -> Drawn, which is copied back -> read(drawn, sequences)

`engine.sampler` gives the same tokens: rules and penalties are computed in the same order and
rounded alike, and there is one way to draw on a device (`engine.drawing`). Rows that this cannot
serve go that way: what they may say next is known to the host alone (a grammar, words of several
tokens that are not to be said), or more than tokens is asked for.
"""

from collections.abc import Iterable, Sequence as Rows
from dataclasses import dataclass
from enum import IntFlag

import torch

from ..kernels.reference_cache import RowTables
from ..kernels.sampling_ops import SamplingOps, choose_sampling_ops
from .drawing import Draw, draw_on
from .outputs import TokenLogprobs
from .sampler import NO_TOKEN_LEFT, NOT_FINITE, SampledTokens
from .sampling_params import MAX_LOGPROBS
from .sampling_tables import MAX_ENDINGS, SamplingTables, TableRows, has_filter
from .sequence import Sequence


class Needs(IntFlag):
    """What rows ask of a step beyond their likeliest token. More than is needed changes nothing."""

    NOTHING = 0
    RULES = 1
    PENALTIES = 2
    FILTERS = 4
    LOGPROBS = 8


@dataclass(frozen=True, slots=True)
class TopLogprobs:
    """Log-probabilities under the model's own distribution; of rows that want none, anything.

    Attributes:
        of_chosen: float32 [R].
        values: float32 [R, MAX_LOGPROBS], falling.
        token_ids: int64 [R, MAX_LOGPROBS].
    """

    of_chosen: torch.Tensor
    values: torch.Tensor
    token_ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step drew, on the device or, once copied, on the host.

    Attributes:
        token_ids: int64 [R]; 0 for padding.
        scores: float32 [R]; the token of a row whose score is not finite means nothing.
        logprobs: if any row asked for them.
    """

    token_ids: torch.Tensor
    scores: torch.Tensor
    logprobs: TopLogprobs | None


class DeviceSampler:
    """Chooses the next tokens of rows that have lines.

    Attributes:
        rows: the tokens of each line, from which penalties are counted; somebody else's.
    """

    def __init__(
        self,
        rows: RowTables,
        vocab_size: int,
        *,
        ops: SamplingOps | None = None,
        draw: Draw | None = None,
    ) -> None:
        device = rows.tokens.device
        self.rows = rows
        self._tables = SamplingTables(rows.tokens.shape[0], vocab_size, device)
        self._ops = ops or choose_sampling_ops(device)
        self._draw = draw or draw_on(device)
        self._num_top = min(MAX_LOGPROBS, vocab_size)

    # -- the host's part ----------------------------------------------------------------------

    @staticmethod
    def serves(sequence: Sequence) -> bool:
        """Whether a sequence's tokens can be chosen without the host, by what it asks for.

        What is told of a prompt is the host's too, but only in the steps that compute it.
        """
        params, rules = sequence.request.params, sequence.rules
        if params.structured_outputs is not None or sequence.pooler is not None:
            return False
        if rules is None:
            return True
        num_endings = 0 if rules.endings is None else len(rules.endings)
        return rules.bad_words is None and num_endings <= MAX_ENDINGS

    def place(self, line: int, sequence: Sequence) -> None:
        """Give a sequence that is served a line.

        Also what makes good when tokens were drawn elsewhere, or a line's row was preempted.
        """
        self._tables.place(line, sequence)

    def take_staged(self) -> list[TableRows]:
        """Return what must be copied to the device before the next step is launched, once."""
        return self._tables.take_staged()

    # -- the device's part --------------------------------------------------------------------

    @torch.inference_mode()
    def sample(self, logits: torch.Tensor, lines: torch.Tensor, needs: Needs) -> Drawn:
        """Choose the next token of each line from float32 `logits` [R, vocab].

        Reads nothing back, and allocates by the shapes and `needs` alone, so it can be captured.
        The logits are overwritten, unless log-probabilities are needed too.

        Args:
            logits: one row for each line that is to draw.
            lines: int32 [R], each once; -1 for padding.
            needs: at least what `needs_of` says of the rows.
        """
        tables, ops = self._tables, self._ops
        places = self.rows.num_known - tables.num_prompt
        changed = logits
        if needs & Needs.LOGPROBS and needs & (Needs.RULES | Needs.PENALTIES):
            changed = logits.clone()
        if needs & Needs.RULES:
            ops.adjust(changed, lines, places, tables.rules)
            ops.allow(changed, lines, tables.rules)
        if needs & Needs.PENALTIES:
            ops.record(tables.history, lines, self.rows)
            ops.penalise(changed, lines, tables.history, tables.penalties)
        has_filter = bool(needs & Needs.FILTERS)
        token_ids, scores = self._draw(
            changed, lines, places, tables.chances, has_filter=has_filter
        )
        logprobs = None
        if needs & Needs.LOGPROBS:
            found = ops.top_logprobs(logits, lines, token_ids, tables.num_top, self._num_top)
            logprobs = TopLogprobs(*found)
        return Drawn(token_ids, scores, logprobs)


def needs_of(sequences: Iterable[Sequence]) -> Needs:
    """Return what a step of these sequences has to compute."""
    needs = Needs.NOTHING
    for sequence in sequences:
        params = sequence.request.params
        if sequence.rules is not None:
            needs |= Needs.RULES
        if sequence.history is not None:
            needs |= Needs.PENALTIES
        if has_filter(params):
            needs |= Needs.FILTERS
        if params.logprobs is not None:
            needs |= Needs.LOGPROBS
    return needs


def read(drawn: Drawn, sequences: Rows[Sequence]) -> SampledTokens:
    """Say what a step drew, from a copy on the host; padding comes after the sequences.

    A row that asks for changes and has no token left is told to look at its parameters.
    """
    num_rows = len(sequences)
    is_sound = torch.isfinite(drawn.scores[:num_rows])
    faults = {
        row: NO_TOKEN_LEFT
        if sequences[row].changes_logits and drawn.scores[row] == -torch.inf
        else NOT_FINITE
        for row in torch.nonzero(~is_sound).flatten().tolist()
    }
    token_ids = drawn.token_ids[:num_rows].tolist()
    return SampledTokens(token_ids, faults, _records(drawn.logprobs, token_ids, sequences))


def _records(
    found: TopLogprobs | None, token_ids: Rows[int], sequences: Rows[Sequence]
) -> dict[int, TokenLogprobs]:
    wanted = {
        row: sequence.request.params.logprobs
        for row, sequence in enumerate(sequences)
        if sequence.logprobs is not None
    }
    if found is None or not wanted:
        return {}
    of_chosen, values, top_ids = (
        tensor[[*wanted]].tolist() for tensor in (found.of_chosen, found.values, found.token_ids)
    )
    records: dict[int, TokenLogprobs] = {}
    for place, (row, count) in enumerate(wanted.items()):
        top = zip(top_ids[place][:count], values[place][:count], strict=True)
        records[row] = TokenLogprobs(token_ids[row], of_chosen[place], tuple(top))
    return records
