"""How figures are told: what half, 95 and 99 of 100 stay below, and the most. Knows numbers."""

import statistics
from collections.abc import Iterable, Mapping


def cuts(samples_s: Iterable[float]) -> dict[str, float]:
    """Return what half, 95 and 99 of 100 samples stay below, and the largest, in milliseconds.

    Of no samples, nothing is said.
    """
    samples = [sample * 1000 for sample in samples_s]
    if not samples:
        return {}
    if len(samples) == 1:
        samples *= 2
    found = statistics.quantiles(samples, n=100, method="inclusive")
    shown = {"p50": found[49], "p95": found[94], "p99": found[98], "max": max(samples)}
    return {name: round(value, 2) for name, value in shown.items()}


def per(number: int, spent_s: Mapping[str, float]) -> dict[str, float]:
    """Return the milliseconds that each of so many took of each part's time."""
    return {part: round(used_s * 1000 / number, 2) for part, used_s in spent_s.items()}
