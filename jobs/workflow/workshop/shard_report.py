"""What a step did to a shard, in numbers and a few words. Knows no file."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

from ..row import Fault

ToldFault: TypeAlias = tuple[str, str, str]  # row, code, message
MAX_EXAMPLES = 10  # of a step's faults that are told in words
MAX_MESSAGE_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a step did to one shard. Sums of these are what a run's progress tells.

    Attributes:
        rows_in: rows that came.
        rows_out: rows that go on.
        dropped: rows left out on purpose, as by a filter.
        failed: rows for which the step could not do its work, and no default stands in.
        lost: those of them that go no further.
        defaulted: rows for which it could not, and which go on with its default.
        errors: how often it could not, by error code.
        cached: requests that an earlier run had answered.
        revisions: of the models whose earlier answers could be used.
        fatal: the fault that ends the run, where the step may not fail: row, code and message.
        examples: the first faults, each as row, code and message.
    """

    rows_in: int = 0
    rows_out: int = 0
    dropped: int = 0
    failed: int = 0
    lost: int = 0
    defaulted: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    asked: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    revisions: Mapping[str, str] = field(default_factory=dict)
    fatal: ToldFault | None = None
    examples: tuple[ToldFault, ...] = ()

    def with_faults(self, faults: Sequence[Fault]) -> Self:
        """Count in what the step could not do."""
        if not faults:
            return self
        outcomes = Counter(fault.outcome for fault in faults)
        fatal = next((fault for fault in faults if fault.outcome == "fatal"), None)
        room = MAX_EXAMPLES - len(self.examples)
        return replace(
            self,
            failed=self.failed + len(faults) - outcomes["defaulted"],
            lost=self.lost + outcomes["dropped"] + outcomes["fatal"],
            defaulted=self.defaulted + outcomes["defaulted"],
            errors=dict(Counter(self.errors) + Counter(fault.error.code for fault in faults)),
            fatal=self.fatal or (None if fatal is None else told(fatal)),
            examples=self.examples + tuple(map(told, faults[:room])),
        )


_SUMMED = (
    *("rows_in", "rows_out", "dropped", "failed", "lost", "defaulted", "asked", "cached"),
    *("prompt_tokens", "completion_tokens", "cached_tokens"),
)


def summed(reports: Iterable[ShardReport]) -> ShardReport:
    """Add up what a step did to several shards."""
    sums: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    revisions: dict[str, str] = {}
    fatal = None
    examples: list[ToldFault] = []
    for report in reports:
        sums.update({name: getattr(report, name) for name in _SUMMED})
        errors.update(report.errors)
        revisions |= report.revisions
        fatal = fatal or report.fatal
        examples += report.examples[: MAX_EXAMPLES - len(examples)]
    return ShardReport(
        **{name: sums[name] for name in _SUMMED},
        errors=dict(errors),
        revisions=revisions,
        fatal=fatal,
        examples=tuple(examples),
    )


def told(fault: Fault) -> ToldFault:
    """Tell a fault as row, code and message, which is no longer than people read."""
    return fault.row_id, fault.error.code, shortened(fault.error.message)


def shortened(message: str) -> str:
    """Return no more of a message than is kept of any."""
    if len(message) <= MAX_MESSAGE_CHARS:
        return message
    return message[: MAX_MESSAGE_CHARS - 1] + "…"
