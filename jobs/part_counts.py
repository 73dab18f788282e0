"""What one landed part adds to its job. Travels in the part's footer and to the job table."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PartCounts:
    """Sums over one part. Rows are input rows: a row with several samples counts once."""

    rows: int
    failed: int  # rows of which at least one sample failed
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    attempt: int = 0  # the claim that landed it
    started_at_ms: int | None = None  # when the first of its rows began
    errors: Mapping[str, int] = field(default_factory=dict)  # error code -> failed rows
    unparsed: int = 0  # rows that succeeded, and are not the document that was asked for


def summed(parts: Iterable[PartCounts]) -> PartCounts:
    """Add up what several parts add to their job."""
    sums: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for part in parts:
        sums.update({name: getattr(part, name) for name in _SUMMED})
        errors.update(part.errors)
    return PartCounts(**{name: sums[name] for name in _SUMMED}, errors=dict(errors))


_SUMMED = ("rows", "failed", "unparsed", "prompt_tokens", "completion_tokens", "cached_tokens")
