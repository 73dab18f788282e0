"""What one step is to compute and what it brought. Knows rows and tokens, neither model nor order.

Complete when it is launched: what happens to a sequence on the host meanwhile does not touch it.
"""

from collections.abc import Iterator, Mapping, Sequence as Rows
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from .batch import ScheduledRow
from .outputs import RequestError, TokenLogprobs
from .pooling import PooledPart
from .sequence import Sequence

_T = TypeVar("_T")

NOT_DRAWN = -1
NONE_DUE = range(0)


class StepPart(NamedTuple):
    """One sequence's part in a step.

    Attributes:
        row: what the model computes.
        place: of the token that is drawn, in the output; NOT_DRAWN if the sequence lacks more.
        due: positions whose logits, or hidden states, are wanted to tell something of the prompt.
        is_pending: the row's one token is what the step before draws.
    """

    sequence: Sequence
    row: ScheduledRow
    place: int
    due: range = NONE_DUE
    is_pending: bool = False

    @property
    def end(self) -> int:
        """Tokens of the sequence that are computed after it."""
        return self.row.position + len(self.row.token_ids)

    def split(self, num_tokens: int) -> tuple["StepPart", "StepPart"]:
        """Return what computes the first tokens, and what computes the others."""
        middle = self.row.position + num_tokens
        due = range(self.due.start, min(self.due.stop, middle))
        first = self.row._replace(
            token_ids=self.row.token_ids[:num_tokens],
            num_logits=middle - due.start if due else 0,
        )
        second = self.row._replace(
            token_ids=self.row.token_ids[num_tokens:],
            position=middle,
            num_logits=min(self.row.num_logits, self.end - middle),
        )
        due_later = range(max(self.due.start, middle), self.due.stop)
        return (
            self._replace(row=first, place=NOT_DRAWN, due=due),
            self._replace(row=second, due=due_later),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed in one turn of the scheduler.

    Attributes:
        parts: one for each sequence, each once.
        num_repeats: how many tokens to draw in a row, if all parts are of one token.
        stops_at_ending: whether a row's end ends the repeats, for others wait for its room.
    """

    parts: Rows[StepPart]
    num_repeats: int = 1
    stops_at_ending: bool = False

    @classmethod
    def of(
        cls, plan: dict[Sequence, int], *, num_repeats: int = 1, stops_at_ending: bool = False
    ) -> "Step":
        """Return the step that computes so many tokens of each sequence, from where it stands."""
        return cls([_part(*planned) for planned in plan.items()], num_repeats, stops_at_ending)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step brought.

    Attributes:
        sequences: those that had caught up, each with its next token in `token_ids`.
        logprobs: for those that asked for them.
        prompt_logprobs: records that follow those which the sequence has.
        pooled: what counts towards the vector of a prompt. That of a sequence among `sequences` is
            complete, and its token means nothing.
        faults: why a sequence failed; it is not among `sequences`.
    """

    sequences: list[Sequence] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: dict[Sequence, TokenLogprobs] = field(default_factory=dict)
    prompt_logprobs: dict[Sequence, list[TokenLogprobs]] = field(default_factory=dict)
    pooled: dict[Sequence, list[PooledPart]] = field(default_factory=dict)
    faults: dict[Sequence, RequestError] = field(default_factory=dict)

    def extend(self, other: "StepResult") -> None:
        """Add what another part of the same step brought."""
        self.sequences.extend(other.sequences)
        self.token_ids.extend(other.token_ids)
        self.logprobs.update(other.logprobs)
        for sequence, records in other.prompt_logprobs.items():
            self.prompt_logprobs.setdefault(sequence, []).extend(records)
        for sequence, parts in other.pooled.items():
            self.pooled.setdefault(sequence, []).extend(parts)
        self.faults.update(other.faults)

    def renamed(self, names: Mapping[Sequence, Sequence]) -> "StepResult":
        """Return the same of other sequences, where `names` has others."""
        return StepResult(
            [names.get(sequence, sequence) for sequence in self.sequences],
            self.token_ids,
            _renamed(self.logprobs, names),
            _renamed(self.prompt_logprobs, names),
            _renamed(self.pooled, names),
            _renamed(self.faults, names),
        )

    def fail(self, sequence: Sequence, fault: RequestError) -> None:
        """Take back what a sequence gained in this step, and say why."""
        self.faults[sequence] = fault
        self.logprobs.pop(sequence, None)
        if sequence in self.sequences:
            place = self.sequences.index(sequence)
            del self.sequences[place], self.token_ids[place]


def _renamed(found: dict[Sequence, _T], names: Mapping[Sequence, Sequence]) -> dict[Sequence, _T]:
    return {names.get(sequence, sequence): each for sequence, each in found.items()}


def within(parts: Rows[StepPart], max_tokens: int | None) -> Iterator[Rows[StepPart]]:
    """Yield the parts in passes of at most so many tokens, splitting them where need be."""
    if max_tokens is None:
        yield parts
        return
    room, gathered = max_tokens, list[StepPart]()
    for part in parts:
        rest = part
        while len(rest.row.token_ids) > room:
            if room:
                first, rest = rest.split(room)
                gathered.append(first)
            yield gathered
            room, gathered = max_tokens, []
        gathered.append(rest)
        room -= len(rest.row.token_ids)
    if gathered:
        yield gathered


def _part(sequence: Sequence, num_tokens: int) -> StepPart:
    begin = sequence.num_computed
    end = begin + num_tokens
    token_ids = sequence.token_ids[begin:end]
    is_pending = not token_ids
    num_known = len(sequence.token_ids) + sequence.num_pending
    place = num_known - sequence.num_prompt if end == num_known else NOT_DRAWN
    due = sequence.due_prompt_positions(begin, end)
    num_logits = end - due.start if due else int(place != NOT_DRAWN)
    row = ScheduledRow(token_ids or (0,), begin, sequence.block_table, num_logits)
    return StepPart(sequence, row, place, due, is_pending)
