"""What the check should find, beside what it found: a short table of figures that were promised.

Knows the names of findings. Refuses to know how they came about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Target:
    """One promise: a figure of one finding of one part, at least or at most so much."""

    what: str
    part: str
    finding: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        return f">= {self.at_least:,g}" if self.at_least is not None else f"<= {self.at_most:,g}"

    def found_in(self, results: Results) -> float | None:
        """Return the figure; None if the part did not get so far."""
        for finding in results.get(self.part, {}).get("findings", ()):
            if finding["name"] == self.finding and self.figure in finding:
                return float(finding[self.figure])
        return None

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        low = self.at_least is None or value >= self.at_least
        high = self.at_most is None or value <= self.at_most
        return "pass" if low and high else "MISS"


AGAIN = "256 requests, again"
TARGETS = (
    Target(
        "decode attention, share of copy, 256 x 1,024",
        "rates", "decode Qwen3-0.6B 256 x 1024", "share_of_copy", at_least=0.85,
    ),
    Target(
        "prefill attention, share of products, 4 x 4,096",
        "rates", "prefill Qwen3-0.6B 4 x 4096", "share_of_product", at_least=0.6,
    ),
    Target(
        "Qwen3-0.6B, 256 requests, tok/s",
        "throughput Qwen3-0.6B", AGAIN, "tokens_per_s", at_least=28600,
    ),
    Target(
        "Llama-3.1-8B, 256 requests, tok/s",
        "throughput Llama-3.1-8B", AGAIN, "tokens_per_s", at_least=10600,
    ),
    Target(
        "shared prefix of 2,048 tokens, ratio",
        "shared", "ratio", "ratio", at_least=2.0,
    ),
    Target(
        "GPU idle, Qwen3-0.6B, 256 rows",
        "throughput Qwen3-0.6B", "profile", "idle", at_most=0.05,
    ),
    Target(
        "GPU idle, Llama-3.1-8B, 256 rows",
        "throughput Llama-3.1-8B", "profile", "idle", at_most=0.05,
    ),
)  # fmt: skip


def table(results: Results) -> list[str]:
    """Return a line for each promise: what, wanted, found, verdict."""
    lines = [f"{'what':<50} {'wanted':>10} {'found':>10}  verdict"]
    for target in TARGETS:
        value = target.found_in(results)
        found = "-" if value is None else f"{value:,.4g}" if value < 100 else f"{value:,.0f}"
        lines.append(f"{target.what:<50} {target.wanted:>10} {found:>10}  {target.verdict(value)}")
    return lines
