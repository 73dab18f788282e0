"""What the device keeps of the parameters of running rows: a line for each, sent once.

Knows sequences and tables. Refuses to know steps and what is computed from the tables.

    line       | key | temperature, top_p ... | history slot, number of biases ... |   72 bytes
    bias_ids   | 17 4021 . . . |                 only of rows that have any
    allowed    | a bit for each token |          likewise
    endings    | 2 151645 . . |                  likewise
    counts     | . . 3 . . . . |                 of each token, in rows that have penalties

Bytes of the counts: 4 for each line and token, 156 MB for 256 rows of 152,000.

The host never writes to a table: it gathers rows to be copied there, and whoever launches steps
sends them, in the order of the steps.
"""

from collections import OrderedDict
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
import torch

from ..kernels.reference_logits import History, Penalties, Rules
from ..kernels.reference_sampling import Chances
from .logit_rules import LogitRules
from .sampling_params import MAX_LOGIT_BIASES, SamplingParams
from .sequence import Sequence

MAX_ENDINGS = 64
_MAX_KEPT_RULES = 16  # of the parameters that jobs have in common
_NUMBERS = ("temperature", "top_p", "min_p", "repetition", "relief", "frequency", "presence")
_INTEGERS = (
    "top_k",
    "num_prompt",
    "num_recorded",
    "history_slot",
    "num_biases",
    "is_limited",
    "num_endings",
    "min_tokens",
    "num_top",
)
_LINE = np.dtype(
    [
        ("key", np.uint64),
        *((name, np.float32) for name in _NUMBERS),
        *((name, np.int32) for name in _INTEGERS),
    ]
)


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows on their way to a table: `table.index_copy_(0, lines, rows)`, both on its device.

    Attributes:
        table: [lines, ...] on the device.
        lines: int64 [N] on the host, each once.
        rows: [N, ...] on the host, of the table's type.
    """

    table: torch.Tensor
    lines: torch.Tensor
    rows: torch.Tensor


class _Table:
    """A static tensor with a line for each row, and what is on its way there."""

    def __init__(self, dtype: torch.dtype, device: torch.device, *shape: int) -> None:
        self.tensor = torch.zeros(shape, dtype=dtype, device=device)
        self._staged: dict[int, torch.Tensor] = {}

    def stage(self, line: int, row: torch.Tensor) -> None:
        self._staged[line] = row

    def stage_head(self, line: int, head: torch.Tensor) -> None:
        """Stage a line of which the rest is not looked at; nothing, if that is all of it."""
        if len(head):
            row = torch.zeros(self.tensor.shape[1], dtype=self.tensor.dtype)
            row[: len(head)] = head
            self.stage(line, row)

    def take_staged(self) -> TableRows | None:
        if not self._staged:
            return None
        staged, self._staged = self._staged, {}
        return TableRows(self.tensor, torch.tensor([*staged]), torch.stack([*staged.values()]))


class SamplingTables:
    """Static tensors with a line for each running row; see the module.

    Attributes:
        chances, rules, penalties, history: views for the kernels, of which the addresses stay.
        num_prompt: int32 [lines], tokens of each row's prompt.
        num_top: int32 [lines], how many log-probabilities it wants; -1 for none.
    """

    def __init__(self, num_lines: int, vocab_size: int, device: torch.device) -> None:
        self._lines = _Table(torch.int64, device, num_lines, _LINE.itemsize // 8)
        self._bias_ids = _Table(torch.int32, device, num_lines, MAX_LOGIT_BIASES)
        self._biases = _Table(torch.float32, device, num_lines, MAX_LOGIT_BIASES)
        self._allowed = _Table(torch.int32, device, num_lines, -(-vocab_size // 32))
        self._endings = _Table(torch.int32, device, num_lines, MAX_ENDINGS)
        counts = torch.zeros((num_lines + 1, vocab_size), dtype=torch.int32, device=device)
        self._kept_rules: OrderedDict[LogitRules, _RuleRows] = OrderedDict()

        self.num_prompt = self._column("num_prompt")
        self.num_top = self._column("num_top")
        self.chances = chances_of(self._lines.tensor)
        self.penalties = Penalties(
            *map(self._column, ("repetition", "relief", "frequency", "presence"))
        )
        self.history = History(
            counts, self._column("history_slot"), self._column("num_recorded"), self.num_prompt
        )
        self.rules = Rules(
            bias_ids=self._bias_ids.tensor,
            biases=self._biases.tensor,
            num_biases=self._column("num_biases"),
            allowed=self._allowed.tensor,
            is_limited=self._column("is_limited"),
            endings=self._endings.tensor,
            num_endings=self._column("num_endings"),
            min_tokens=self._column("min_tokens"),
        )

    def place(self, line: int, sequence: Sequence) -> None:
        """Give a sequence a line, and its history the line's, if it has penalties."""
        row = _line_of(sequence, -1 if sequence.history is None else line)
        if sequence.rules is not None:
            rules = self._rows_of(sequence.rules)
            row["num_biases"], row["num_endings"] = len(rules.bias_ids), len(rules.endings)
            self._bias_ids.stage_head(line, rules.bias_ids)
            self._biases.stage_head(line, rules.biases)
            self._endings.stage_head(line, rules.endings)
            if rules.allowed is not None:
                row["is_limited"] = 1
                self._allowed.stage(line, rules.allowed)
        self._lines.stage(line, torch.from_numpy(row.view(np.int64)))

    def take_staged(self) -> list[TableRows]:
        """Return what has to be sent before the next step, and forget it."""
        tables = (self._lines, self._bias_ids, self._biases, self._allowed, self._endings)
        staged = [table.take_staged() for table in tables]
        return [rows for rows in staged if rows is not None]

    def _column(self, name: str) -> torch.Tensor:
        return _column(self._lines.tensor, name)

    def _rows_of(self, rules: LogitRules) -> "_RuleRows":
        rows = self._kept_rules.get(rules)
        if rows is None:
            rows = self._kept_rules[rules] = _RuleRows.of(rules)
            if len(self._kept_rules) > _MAX_KEPT_RULES:
                self._kept_rules.popitem(last=False)
        self._kept_rules.move_to_end(rules)
        return rows


@dataclass(frozen=True, slots=True)
class _RuleRows:
    """`LogitRules` as tables have them, made once for all rows that share them."""

    bias_ids: torch.Tensor
    biases: torch.Tensor
    endings: torch.Tensor
    allowed: torch.Tensor | None

    @classmethod
    def of(cls, rules: LogitRules) -> "_RuleRows":
        none = torch.zeros(0)
        return cls(
            bias_ids=(none if rules.bias_ids is None else rules.bias_ids).int(),
            biases=none if rules.bias is None else rules.bias,
            endings=(none if rules.endings is None else rules.endings).int(),
            allowed=None if rules.allowed is None else _packed(rules.allowed.numpy()),
        )


def drawing_lines(sequences: Rows[Sequence]) -> torch.Tensor:
    """Return lines that say how sequences draw and nothing else, see `chances_of`."""
    return torch.from_numpy(_drawing(sequences).view(np.int64)).view(-1, _LINE.itemsize // 8)


def _drawing(sequences: Rows[Sequence]) -> np.ndarray:
    lines = np.zeros(len(sequences), _LINE)
    params = [sequence.request.params for sequence in sequences]
    lines["key"] = [sequence.random_key for sequence in sequences]
    lines["temperature"] = [0.0 if each.is_greedy else each.temperature for each in params]
    lines["top_k"] = [0 if each.is_greedy else each.top_k for each in params]
    lines["top_p"] = [1.0 if each.is_greedy else each.top_p for each in params]
    lines["min_p"] = [0.0 if each.is_greedy else each.min_p for each in params]
    return lines


def has_filter(params: SamplingParams) -> bool:
    """Whether a row that draws draws from a part of the vocabulary."""
    return not params.is_greedy and bool(params.top_k or params.top_p < 1.0 or params.min_p)


def chances_of(lines: torch.Tensor) -> Chances:
    """Return views of what a table of lines, int64 [lines, words], says about drawing."""
    return Chances(
        temperatures=_column(lines, "temperature"),
        keys=_column(lines, "key"),
        top_k=_column(lines, "top_k"),
        top_p=_column(lines, "top_p"),
        min_p=_column(lines, "min_p"),
    )


def _line_of(sequence: Sequence, history_slot: int) -> np.ndarray:
    """Return all of a sequence's line but the sizes of its rules, an array of one."""
    params = sequence.request.params
    row = _drawing([sequence])
    row["repetition"], row["relief"] = params.repetition_penalty, 1.0 / params.repetition_penalty
    row["frequency"], row["presence"] = params.frequency_penalty, params.presence_penalty
    row["num_prompt"], row["num_recorded"] = sequence.num_prompt, -1
    row["history_slot"] = history_slot
    row["min_tokens"] = params.min_tokens
    row["num_top"] = -1 if params.logprobs is None else params.logprobs
    return row


def _column(lines: torch.Tensor, name: str) -> torch.Tensor:
    """Return a view [lines] of one of a line's entries: two words of key, then a word for each."""
    if name == "key":
        return lines[:, 0]
    if name in _NUMBERS:
        return lines.view(torch.float32)[:, 2 + _NUMBERS.index(name)]
    return lines.view(torch.int32)[:, 2 + len(_NUMBERS) + _INTEGERS.index(name)]


def _packed(allowed: np.ndarray) -> torch.Tensor:
    """Return int32 words of the bits, the lowest first."""
    octets = np.packbits(allowed, bitorder="little")
    return torch.from_numpy(np.pad(octets, (0, -len(octets) % 4)).view(np.int32))
