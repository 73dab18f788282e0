"""What was measured, as a table for people and as JSON for machines. Knows no process."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contender import Turn
from rich.console import Console
from rich.table import Table

QUIET = 0.04  # a turn during which others took more of the machine than this is doubtful


@dataclass(frozen=True, slots=True)
class Record:
    """One turn of one peer at one work."""

    peer: str
    work: str
    round: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class Summary:
    """All turns of one peer at one work.

    Quiet turns alone count, if there are any; else all do, and `is_doubtful` says so.
    """

    peer: str
    work: str
    median: float
    lowest: float
    highest: float
    num_turns: int
    is_doubtful: bool


@dataclass(slots=True)
class Results:
    """Grows turn by turn.

    Attributes:
        machine: what it was measured on.
        failures: by peer, what it said last.
        loaded_s, resident_bytes: by peer.
        floors: the machine's own limits, see `floor.py`: by name and work, tokens per second.
    """

    machine: dict[str, str]
    records: list[Record] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    loaded_s: dict[str, float] = field(default_factory=dict)
    resident_bytes: dict[str, int] = field(default_factory=dict)
    floors: dict[str, dict[str, float]] = field(default_factory=dict)

    def summaries(self) -> Iterator[Summary]:
        """Yield one summary per peer and work, in the order in which they were first measured."""
        turns: dict[tuple[str, str], list[Turn]] = defaultdict(list)
        for record in self.records:
            turns[record.peer, record.work].append(record.turn)
        for (peer, work), all_turns in turns.items():
            quiet = [turn for turn in all_turns if turn.foreign_share <= QUIET]
            speeds = [turn.tokens_per_s for turn in quiet or all_turns]
            yield Summary(
                peer,
                work,
                median=statistics.median(speeds),
                lowest=min(speeds),
                highest=max(speeds),
                num_turns=len(speeds),
                is_doubtful=not quiet,
            )

    def agreement(self, peer: str, truth: str) -> float | None:
        """Return the part of rows whose first token two peers agree on; None if nothing compares.

        Random weights put many best logits within a rounding error of each other, so this says
        whether two peers compute the same model, not whether one of them is right.
        """
        first = {(r.work, r.round): r.turn.first_tokens for r in self.records if r.peer == truth}
        pairs = [
            (mine, theirs)
            for record in self.records
            if record.peer == peer
            for mine, theirs in zip(
                record.turn.first_tokens, first.get((record.work, record.round), ()), strict=False
            )
        ]
        return sum(mine == theirs for mine, theirs in pairs) / len(pairs) if pairs else None

    def write(self, path: Path) -> None:
        """Put everything into one JSON file."""
        summaries = [asdict(summary) for summary in self.summaries()]
        path.write_text(json.dumps({**asdict(self), "summaries": summaries}, indent=1))


def print_table(results: Results, console: Console) -> None:
    """Draw speeds with their spread, one line per peer, and say who failed at what."""
    works = list(dict.fromkeys(record.work for record in results.records))
    by_peer: dict[str, dict[str, Summary]] = defaultdict(dict)
    for summary in results.summaries():
        by_peer[summary.peer][summary.work] = summary
    truth = next(iter(by_peer), "")
    table = Table(title="output tokens per second: median (lowest-highest) of the quiet turns")
    table.add_column("peer")
    for work in works:
        table.add_column(work, justify="right")
    table.add_column("memory", justify="right")
    table.add_column("first tokens", justify="right")
    for peer, of_work in by_peer.items():
        cells = [_cell(of_work.get(work)) for work in works]
        memory = f"{results.resident_bytes.get(peer, 0) / 2**30:.1f} GiB"
        same = results.agreement(peer, truth)
        table.add_row(peer, *cells, memory, "" if same is None else f"{same:.0%}")
    for name, of_work in results.floors.items():
        cells = [f"{of_work[work]:.0f}" if work in of_work else "" for work in works]
        table.add_row(name, *cells, "", "")
    console.print(table)
    console.print(f"? = others took more than {QUIET:.0%} of the machine in every turn")
    for peer, reason in results.failures.items():
        console.print(f"{peer} failed: {reason}", style="red", highlight=False)


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "-"
    doubt = "?" if summary.is_doubtful else ""
    return f"{summary.median:.0f}{doubt} ({summary.lowest:.0f}-{summary.highest:.0f})"
