"""The table of what chaos came to, for people: one line per fault over all its seeds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from .scene import Record

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
_HEADER = (
    "| fault | runs | rows accepted | lost | doubled | innocent failures | wrong "
    "| done again after landing | computed in vain | engines started | next row after "
    "| all in flight landed after |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object per run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote."""
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()]


def table(records: Sequence[Record]) -> str:
    """Render the runs as a Markdown table; times are the worst of a fault's runs."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.fault, record.title), []).append(record)
    lines = [_HEADER, *(_line(runs) for runs in groups.values()), _total(records)]
    return "\n".join(lines)


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: the page has no such markers.
    """
    whole = page.read_text()
    if whole.count(BEGIN) != 1 or whole.count(END) != 1:
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}, each once")
    before, rest = whole.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _line(runs: Sequence[Record]) -> str:
    first = runs[0]
    tokens = sum(run.recomputed_tokens for run in runs) / sum(run.rows for run in runs)
    cells = [
        f"{first.fault} {first.title}",
        *_counts(runs),
        f"{tokens:.2f} tokens/row",
        str(sum(run.engine_starts for run in runs)),
        _worst([run.t_first_s for run in runs]),
        _worst([run.t_held_s for run in runs]),
    ]
    return f"| {' | '.join(cells)} |"


def _total(records: Sequence[Record]) -> str:
    return f"| **all** | {' | '.join(_counts(records))} | | | | |"


def _counts(runs: Sequence[Record]) -> list[str]:
    names = ("acked", "lost", "duplicated", "innocent", "wrong", "redone")
    return [str(len(runs)), *(f"{sum(getattr(run, name) for run in runs):,}" for name in names)]


def _worst(times: Sequence[float | None]) -> str:
    known = [time_s for time_s in times if time_s is not None]
    return f"{max(known):.1f} s" if known else "-"
