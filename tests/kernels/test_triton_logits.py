"""The kernels that change logits do to the bit what their twins do, and the twins what they say."""

from collections.abc import Iterator

import pytest
import torch

from penstock.kernels import reference_logits, triton_history, triton_logits
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.reference_logits import History, Penalties, Rules

pytestmark = pytest.mark.usefixtures("poisoned")

VOCAB = 5000  # two tiles, the second not full
LINES = torch.tensor([2, -1, 0, 1]).int()


def columns(*values: list[float] | list[int], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Columns of one table that is wider than they are."""
    table = torch.full((len(values[0]), len(values) + 2), 99).to(dtype)
    for place, column in enumerate(values):
        table[:, place] = torch.tensor(column)
        yield table[:, place]


def rules(spare: int = 0) -> Rules:
    """Of three lines: biases and a mask, nothing, endings of which one has a bias."""
    num_biases, is_limited, num_endings, min_tokens = columns(
        [300, 0, 2], [1, 0, 0], [0, 2, 3], [0, 5, 5], dtype=torch.int32
    )
    bias_ids, biases = torch.full((3, 300), 10**6).int(), torch.full((3, 300), torch.nan)
    bias_ids[0], biases[0] = torch.randperm(VOCAB)[:300].int(), torch.randn(300)
    bias_ids[2, :2], biases[2, :2] = torch.tensor([9, 0]).int(), torch.tensor([5.0, -1.0])
    endings = torch.full((3, 4), 10**6).int()
    endings[1, :2], endings[2, :3] = torch.tensor([0, 1]), torch.tensor([VOCAB - 1, 9, 11])
    allowed = torch.randint(-(2**31), 2**31 - 1, (3, (VOCAB - spare) // 32 + 1)).int()
    return Rules(
        bias_ids, biases, num_biases, allowed, is_limited, endings, num_endings, min_tokens
    )


def test_biases_and_endings() -> None:
    table, places = rules(), torch.tensor([0, 5, 4]).int()
    logits = torch.randn(4, VOCAB)
    logits[0, 11] = torch.inf  # which is out of reach too
    before, expected = logits.clone(), logits.clone()
    reference_logits.adjust(expected, LINES, places, table)
    triton_logits.adjust(logits, LINES, places, table)
    assert torch.equal(logits, expected)
    changed = logits != before
    assert changed[0].nonzero()[:, 0].tolist() == [0, 9, 11, VOCAB - 1]
    assert (logits[0] == -torch.inf).nonzero()[:, 0].tolist() == [9, 11, VOCAB - 1]
    assert changed.sum(1).tolist()[1:] == [0, 300, 0]  # padding, biases, late enough to end


@pytest.mark.parametrize("spare", [0, 64])
def test_masks(spare: int) -> None:
    table = rules(spare)
    logits = torch.randn(4, VOCAB)
    before, expected = logits.clone(), logits.clone()
    reference_logits.allow(expected, LINES, table)
    triton_logits.allow(logits, LINES, table)
    assert torch.equal(logits, expected)
    assert torch.equal(logits[[0, 1, 3]], before[[0, 1, 3]])
    assert 0.4 < logits[2].isinf().float().mean() < 0.6
    ends_at = 32 * table.allowed.shape[1]
    assert bool(logits[2, ends_at:].isinf().all())


class Talk:
    """Three lines, of which one has no penalties, and what they have said."""

    def __init__(self) -> None:
        slots, num_recorded, num_prompt = columns(
            [1, -1, 0], [-1, -1, -1], [2, 4, 1500], dtype=torch.int32
        )
        before, self.after, *_ = storage = torch.full((5, VOCAB), 77, dtype=torch.int32)
        self.unowned = before
        self.history = History(storage[1:4], slots, num_recorded, num_prompt)
        tokens = torch.randint(0, VOCAB, (3, 3000)).int()
        tokens[:, 100:] %= 50  # said again and again
        self.rows = RowTables(
            tokens, torch.tensor([2, 4, 1500]).int(), torch.zeros(3).int(), torch.zeros(3, 1).int()
        )

    def twin(self) -> "Talk":
        twin = Talk.__new__(Talk)
        copied = (self.history.counts, self.history.num_recorded)
        counts, num_recorded = (tensor.clone() for tensor in copied)
        # In as wide a table as the other columns lie in.
        num_recorded = num_recorded[:, None].expand(-1, 5).contiguous()[:, 0]
        twin.history = History(counts, self.history.slots, num_recorded, self.history.num_prompt)
        twin.rows = self.rows
        return twin


def said_by(talk: Talk, line: int) -> torch.Tensor:
    num_prompt, num_known = int(talk.history.num_prompt[line]), int(talk.rows.num_known[line])
    tokens = talk.rows.tokens[line, :num_known].long()
    counts = 2 * tokens[num_prompt:].bincount(minlength=VOCAB)
    counts[tokens[:num_prompt].unique()] += 1
    return counts.int()


def test_history_follows_the_tokens() -> None:
    """From a slot that holds another row's, over prompts and outputs, in steps of any length."""
    talk = Talk()
    twin = talk.twin()
    for step, more in enumerate([0, 1, 0, 1200]):
        talk.rows.num_known.add_(more)
        lines = LINES if step else LINES[:3]
        for _ in range(2):  # repeated, it counts nothing twice
            triton_history.record(talk.history, lines, talk.rows)
            reference_logits.record(twin.history, lines, talk.rows)
            assert torch.equal(talk.history.counts[:2], twin.history.counts[:2])
            assert torch.equal(talk.history.num_recorded, twin.history.num_recorded)
            for line, slot in ((0, 1), (2, 0)):
                assert torch.equal(talk.history.counts[slot], said_by(talk, line))
    assert bool((talk.unowned == 77).all())  # where slot -1 would be
    assert talk.history.num_recorded.tolist() == [1203, -1, 2701]


def test_penalties() -> None:
    """To the bit, so that it does not matter who computes them."""
    talk = Talk()
    talk.rows.num_known.add_(700)
    reference_logits.record(talk.history, LINES, talk.rows)
    repetition = [1.3, 2.0, 0.7]
    penalties = Penalties(
        *columns(
            repetition,
            [1 / each for each in repetition],
            [0.3, 1.0, -0.1],
            [0.2, 1, 0.7],
            dtype=torch.float32,
        )
    )
    logits = torch.randn(4, VOCAB)
    before, expected = logits.clone(), logits.clone()
    reference_logits.penalise(expected, LINES, talk.history, penalties)
    triton_history.penalise(logits, LINES, talk.history, penalties)
    assert torch.equal(logits, expected)
    changed = logits != before
    assert changed.sum(1).tolist()[1::2] == [0, 0]
    assert torch.equal(changed[0], talk.history.counts[0] > 0)
    assert torch.equal(changed[2], talk.history.counts[1] > 0)
