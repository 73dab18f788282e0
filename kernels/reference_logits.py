"""What changes logits before a token is drawn, in plain PyTorch: the specification on a GPU.

Knows tensors with a line for each running row, and steps that name lines; -1 is padding, which
nothing here touches. Refuses to know sequences, their parameters and chance. Nothing is read back
and no shape depends on data, so that all of it can be captured.
"""

from dataclasses import dataclass

import torch

from .reference_cache import RowTables


@dataclass(frozen=True, slots=True)
class Penalties:
    """How much each row shuns what it has said; 1, 1, 0 and 0 change nothing.

    Attributes:
        repetition: float32 [lines], what negative logits of seen tokens are multiplied by.
        relief: float32 [lines], what positive ones are: its inverse, rounded once.
        frequency: float32 [lines], what each time a token was generated costs it.
        presence: float32 [lines], what having been generated at all costs it.
    """

    repetition: torch.Tensor
    relief: torch.Tensor
    frequency: torch.Tensor
    presence: torch.Tensor


@dataclass(frozen=True, slots=True)
class History:
    """What rows with penalties have seen; changed in place.

    Attributes:
        counts: int32 [slots + 1, vocab], twice the times that a row has generated a token, and one
            more if its prompt has it. The last slot belongs to nobody.
        slots: int32 [lines], each line's slot; -1 for a row without penalties.
        num_recorded: int32 [lines], how many of the line's tokens the counts tell of; -1 if the
            slot still holds what another row has left there.
        num_prompt: int32 [lines], how many of them are the prompt.
    """

    counts: torch.Tensor
    slots: torch.Tensor
    num_recorded: torch.Tensor
    num_prompt: torch.Tensor


@dataclass(frozen=True, slots=True)
class Rules:
    """What rows favour, allow and must not end with yet.

    Attributes:
        bias_ids: int32 [lines, biases], tokens, each once.
        biases: float32 [lines, biases], what is added to their logits.
        num_biases: int32 [lines], how many there are.
        allowed: int32 [lines, words]; bit t % 32 of word t // 32 allows token t, and tokens past
            the last word, which only fill up the vocabulary, are forbidden.
        is_limited: int32 [lines], whether `allowed` holds.
        endings: int32 [lines, endings], tokens that end an output.
        num_endings: int32 [lines], how many there are.
        min_tokens: int32 [lines], the first place at which an output may end.
    """

    bias_ids: torch.Tensor
    biases: torch.Tensor
    num_biases: torch.Tensor
    allowed: torch.Tensor
    is_limited: torch.Tensor
    endings: torch.Tensor
    num_endings: torch.Tensor
    min_tokens: torch.Tensor


def adjust(logits: torch.Tensor, lines: torch.Tensor, places: torch.Tensor, rules: Rules) -> None:
    """Add biases to float32 logits [R, vocab], and put endings out of reach while it is too soon.

    Args:
        logits: changed in place.
        lines: int32 [R].
        places: int32 [lines], where in its output each line's next token goes.
        rules: see there.
    """
    line, is_real = _of(lines)
    numbers = torch.arange(rules.bias_ids.shape[1], device=logits.device)
    is_bias = is_real[:, None] & (numbers < rules.num_biases[line][:, None])
    ids = rules.bias_ids[line].long().where(is_bias, 0)
    # Padding adds what adds nothing, for it stands for a token that another may stand for.
    logits.scatter_add_(1, ids, rules.biases[line].where(is_bias, -0.0))

    numbers = torch.arange(rules.endings.shape[1], device=logits.device)
    is_ending = numbers < rules.num_endings[line][:, None]
    is_ending &= (is_real & (places[line] < rules.min_tokens[line]))[:, None]
    ids = rules.endings[line].long().where(is_ending, 0)
    held_back = torch.zeros_like(logits, dtype=torch.uint8)
    held_back.scatter_reduce_(1, ids, is_ending.byte(), "amax")
    logits.masked_fill_(held_back.bool(), -torch.inf)


def allow(logits: torch.Tensor, lines: torch.Tensor, rules: Rules) -> None:
    """Set to -inf, in place on float32 logits [R, vocab], what rows do not allow."""
    line, is_real = _of(lines)
    token_ids = torch.arange(logits.shape[1], device=logits.device)
    inside = token_ids < 32 * rules.allowed.shape[1]
    word = rules.allowed[line][:, (token_ids // 32).where(inside, 0)]
    is_allowed = inside & (((word >> (token_ids % 32)) & 1) == 1)
    is_free = ~is_real | (rules.is_limited[line] == 0)
    logits.masked_fill_(~(is_allowed | is_free[:, None]), -torch.inf)


def record(history: History, lines: torch.Tensor, rows: RowTables) -> None:
    """Bring the counts of some lines, each of them named once, up to the tokens that are known.

    To do it twice is to do it once, so a step may be repeated.
    """
    line, is_real = _of(lines)
    slot = history.slots[line].where(is_real, -1)
    is_kept = slot >= 0
    slot = slot.where(is_kept, history.counts.shape[0] - 1).long()
    before = history.num_recorded[line]
    held = history.counts[slot].where((before >= 0)[:, None], 0)

    token_ids = rows.tokens[line].long()
    numbers = torch.arange(token_ids.shape[1], device=lines.device)
    is_known = numbers < rows.num_known[line][:, None]
    is_new = is_known & (numbers >= before[:, None])
    is_prompt = numbers < history.num_prompt[line][:, None]
    token_ids = token_ids.where(is_new, 0)
    held.scatter_reduce_(1, token_ids, (is_new & is_prompt).int(), "amax")
    held.scatter_add_(1, token_ids, 2 * (is_new & ~is_prompt).int())
    history.counts.index_copy_(0, slot, held)
    known = rows.num_known[line].where(is_kept, -1)
    history.num_recorded.scatter_reduce_(0, line, known, "amax")


def penalise(
    logits: torch.Tensor, lines: torch.Tensor, history: History, penalties: Penalties
) -> None:
    """Apply repetition, then frequency and presence penalties to float32 logits, in place.

    Each operation is rounded by itself, so that every way to compute it comes to the same bits.
    """
    line, is_real = _of(lines)
    slot = history.slots[line].where(is_real, -1)
    counts = history.counts[slot.where(slot >= 0, history.counts.shape[0] - 1).long()]
    times = counts // 2
    factor = torch.where(
        logits > 0, penalties.relief[line][:, None], penalties.repetition[line][:, None]
    )
    spent = penalties.frequency[line][:, None] * times
    spent += penalties.presence[line][:, None] * (times > 0)
    is_seen = (slot >= 0)[:, None] & (counts > 0)
    logits.copy_(torch.where(is_seen, logits * factor - spent, logits))


def _of(lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int64 lines that exist, and which of them are meant."""
    return lines.clamp(min=0).long(), lines >= 0
