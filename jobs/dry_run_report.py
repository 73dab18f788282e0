"""What a dry run has found: plain records, which travel as JSON. Knows no row.

Lines count from 1, as they do for rejected lines; of Parquet they count rows.
"""

from dataclasses import dataclass, field

from .model import RejectedLine

MAX_SHOWN = 100  # bad lines, and too long rows
MAX_REPEATS_SHOWN = 20
MAX_LINES_SHOWN = 10  # of one kind of error
MAX_KINDS = 50  # of errors; all others are one kind more


@dataclass(frozen=True, slots=True)
class BadLines:
    """Lines that cannot become rows, the first so many of them with their reasons."""

    count: int = 0
    errors: list[RejectedLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the job as a whole would be refused."""

    param: str
    message: str


@dataclass(frozen=True, slots=True)
class RowFault:
    """An error that rows would have, with the first lines that do."""

    code: str
    param: str | None
    message: str
    count: int
    lines: list[int]


@dataclass(frozen=True, slots=True)
class RowFaults:
    """Rows that would fail before the model sees them, by what is wrong with them."""

    count: int = 0
    kinds: list[RowFault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LongRow:
    """A row whose prompt leaves no room for an answer."""

    line: int
    tokens: int


@dataclass(frozen=True, slots=True)
class LongRows:
    """Rows over the context; `context_window` is None where nobody knows it.

    `cut_short` rows fit, and all tokens that they may answer with (`max_tokens`) do not.
    """

    count: int = 0
    context_window: int | None = None
    rows: list[LongRow] = field(default_factory=list)
    cut_short: int = 0


@dataclass(frozen=True, slots=True)
class Repeat:
    """A row that says what an earlier one says."""

    line: int
    same_as: int
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Repeats:
    """How many rows repeat an earlier one, and the first that do."""

    count: int = 0
    exact: bool = True
    examples: list[Repeat] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InputTokens:
    """Tokens of all prompts, chat template included.

    `counted_rows` were tokenized; where that is not all of them, `exact` is false and the others
    are taken to be like those.
    """

    total: int
    exact: bool
    counted_rows: int
    longest: int


@dataclass(frozen=True, slots=True)
class PrefixReuse:
    """Tokens that a prefix cache would save if it had room for all, of those of the first rows."""

    tokens: int
    of_tokens: int
    rows: int


@dataclass(frozen=True, slots=True)
class DryRunReport:
    """What is known of an input so far, or, with `complete`, of all of it.

    Attributes:
        rows: lines that are rows, whatever is wrong with them.
        answers: samples that are asked for.
        output_at_most: tokens of all answers; None without a bound.
        input_tokens, prefix_reuse: None without a tokenizer.
        unchecked: what could not be looked at, in words.
        warnings: what is allowed and hardly meant, in words.
        stopped: why not all of the input was read.
        share_read: of the input's bytes, where their number is known.
    """

    rows: int
    answers: int
    bad_lines: BadLines
    row_errors: RowFaults
    too_long: LongRows
    duplicates: Repeats
    duplicate_ids: Repeats
    output_at_most: int | None
    input_tokens: InputTokens | None
    prefix_reuse: PrefixReuse | None
    unchecked: list[str]
    warnings: list[str] = field(default_factory=list)
    refusal: Refusal | None = None
    complete: bool = False
    stopped: str | None = None
    share_read: float | None = None

    @property
    def num_bad(self) -> int:
        """Lines and rows that would come to nothing."""
        return self.bad_lines.count + self.row_errors.count + self.too_long.count

    @property
    def is_fine(self) -> bool:
        """Whether all of the input was read, and nothing is wrong with it."""
        return self.complete and self.refusal is None and not self.num_bad
