"""How far things are, in a few words and short numbers. Knows records; draws nothing."""

from collections.abc import Mapping

from ..jobs.model import JobState
from .eta import Eta
from .records import JobRecord

_MOST_CODES = 4


def progress_facts(record: JobRecord, eta: Eta | None = None) -> str:
    """Say in a few words how far a job is."""
    counts = record.counts
    facts = [f"{counts.succeeded + counts.failed:,}/{counted(counts.total, 'row')}"]
    if record.tokens_per_s and not record.status.is_final:
        facts.append(f"{short_number(record.tokens_per_s)} tok/s")
    if record.eta_s is not None and not record.status.is_final:
        facts.append(f"eta {eta_words(eta or Eta(record.eta_s))}")
    if counts.failed:
        facts.append(f"{counts.failed:,} failed")
    if counts.unparsed:
        facts.append(f"{counts.unparsed:,} unparsed")
    if counts.rejected:
        facts.append(f"{counts.rejected:,} rejected")
    if record.status is JobState.PAUSED and record.status_reason:
        facts.append(record.status_reason)
    elif record.error:
        facts.append(record.error)
    return " · ".join(facts)


def finer_facts(record: JobRecord, eta: Eta | None = None) -> str:
    """Say what else is worth knowing: the rate of rows, how sure the ETA is, errors by code."""
    facts = []
    if not record.status.is_final:
        if record.rows_per_s:
            facts.append(f"{short_rate(record.rows_per_s)} rows/s")
        if eta is not None and eta.p90_s is not None:
            facts.append(f"eta p90 {short_time(eta.p90_s)}")
    if record.errors_by_code:
        facts.append(f"errors: {error_words(record.errors_by_code)}")
    return " · ".join(facts)


def eta_words(eta: Eta) -> str:
    """Say when it may end: in half of all cases by the first, in nine of ten by the second."""
    first = short_time(eta.p50_s)
    second = first if eta.p90_s is None else short_time(eta.p90_s)
    return first if second == first else f"{first}-{second}"


def error_words(errors_by_code: Mapping[str, int]) -> str:
    """Say which errors there were, the most frequent first."""
    ranked = sorted(errors_by_code.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{code} {number:,}" for code, number in ranked[:_MOST_CODES]]
    if len(ranked) > _MOST_CODES:
        words.append(f"{len(ranked) - _MOST_CODES} more")
    return ", ".join(words)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 row, 2 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short_number(value: float) -> str:
    """Write a number with at most three digits before its unit: 950, 61.2k, 1.3M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def short_rate(value: float) -> str:
    """Write a rate, which may be small: 0.25, 3.1, 950, 61.2k."""
    return f"{value:.2g}" if value < 10 else short_number(value)


def short_time(seconds: float) -> str:
    """Write a duration in its two largest units: 42s, 3m 05s, 1h 52m."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}h {m:02d}m"
    return f"{m}m {s:02d}s" if m else f"{s}s"
