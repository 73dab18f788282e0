"""How `penstock top` looks: what there is room for, the busiest first. Knows no server, no keys."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ..jobs.model import JobState
from .cli_job_output import short_status
from .cli_output import cell
from .rate_history import Rates
from .records import JobRecord
from .sparkline import chart, sparkline
from .top_snapshot import Snapshot, WorkerRecord
from .wording import counted, short_number, short_time
from .workflow_records import RunRecord, StepRecord

_HOW_TO_LEAVE = "q leaves"
_NO_LIMIT = 20  # rows of a table where no screen limits them
_SPARK = 12
_BAR = 10
_ID = len("job_01K3ZZZZZZZZZZZZZZZZZZZZZZ")
_STATE = len("cancelled")
_NAME = 20
_WORKER = _NAME + 7 + 7 + 4 + 6 + 8 + 6  # what a worker's line needs beside its model
_WIDE = 112  # columns from which there is room for bars and sparklines
_NARROW = 72  # columns below which of a job's figures the most telling ones stay
_FIGURES = ("rows", "rows/s", "tok/s", "eta", "errors")
_AXIS = 7  # columns of a number beside the chart
_STYLES = {
    "running": "green", "completed": "green", "paused": "yellow", "failed": "red",
    "cancelled": "red", "expired": "red", "landing": "cyan", "completed_with_errors": "yellow",
}  # fmt: skip
_MARKS = {"completed": "✓", "running": "▸", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class TopView:
    """One picture, which fits itself to the terminal whenever it is drawn.

    A live one fills the screen, and says how to leave it.
    """

    address: str
    snapshot: Snapshot | None = None
    rates: Rates = field(default_factory=Rates)
    trouble: str | None = None
    is_live: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw, from the top line to the last that there is room for."""
        width, height = options.max_width, options.size.height if self.is_live else None
        yield self._title(width)
        if self.trouble is not None:
            yield _line(cell(self.trouble, None), "bold red")
        if self.snapshot is None:
            return
        yield _totals(self.snapshot)
        used = 2 + (self.trouble is not None)
        plot = list(self._plot(width, height, plain=options.ascii_only))
        yield from plot
        left = None if height is None else height - used - len(plot)
        yield from self._tables(width, left)

    def _title(self, width: int) -> Text:
        at = "" if self.snapshot is None else f"{self.snapshot.at.astimezone():%H:%M:%S}"
        title = Text.assemble(("penstock top", "bold"), "  ", cell(self.address, 40), "  ", at)
        room = width - title.cell_len - len(_HOW_TO_LEAVE)
        if self.is_live and room > 1:
            title.append(" " * room + _HOW_TO_LEAVE, style="dim")
        return _line(title)

    def _plot(self, width: int, height: int | None, *, plain: bool) -> Iterator[Text]:
        """Draw tokens per second over time, if there is room and anything to see."""
        rates = self.rates.total
        if height is None or height < 18 or len(rates) < 2:
            return
        num_lines = 5 if height >= 36 else 3
        top = max(rates[-(width - _AXIS) :])
        yield Text("")
        for number, line in enumerate(chart(rates, width - _AXIS, num_lines, top=top, plain=plain)):
            label = f"{short_number(top)} " if number == 0 else ""
            yield _line(Text.assemble((label.rjust(_AXIS), "dim"), (line, "green")))
        yield _line(Text("tok/s ".rjust(_AXIS) + "now".rjust(width - _AXIS), style="dim"))

    def _tables(self, width: int, height: int | None) -> Iterator[Table | Text]:
        """Draw workers, runs and jobs, each with as many rows as there is room for."""
        assert self.snapshot is not None
        workers, runs, jobs = self.snapshot.workers, self.snapshot.runs, self.snapshot.jobs
        wants = [max(1, len(workers)), len(runs), len(jobs)]
        if height is None:
            rooms = [min(want, _NO_LIMIT) for want in wants]
        else:
            heads = 3 * sum(1 for want in wants if want)  # an empty line, a heading, the columns
            rooms = share(wants, height - heads)
        if rooms[0]:
            yield from _heading("workers", rooms[0], len(workers))
            yield self._workers(workers[: rooms[0]], width)
        if rooms[1]:
            yield from _heading("runs", rooms[1], len(runs))
            yield _runs(runs[: rooms[1]], width)
        if rooms[2]:
            latest = "the latest " if self.snapshot.has_more_jobs else ""
            yield from _heading("jobs", rooms[2], len(jobs), latest)
            yield self._jobs(jobs[: rooms[2]], width)

    def _workers(self, workers: Sequence[WorkerRecord], width: int) -> Table:
        is_wide = width >= _WIDE
        names = ["name", "model", "running", "waiting", "KV", "tok/s", "revision"]
        names += ["lately"] if is_wide else []
        room = width - _WORKER - (_SPARK + 1 if is_wide else 0)
        table = _table(names, {"name": _NAME, "model": room})
        for worker in workers:
            note = worker.not_ready or ("draining" if worker.is_draining else "")
            table.add_row(
                cell(worker.name),
                cell(f"{worker.model} ({note})" if note else worker.model),
                f"{worker.running_rows:,}",
                f"{worker.waiting_rows:,}",
                f"{worker.kv_used_fraction:.0%}",
                short_number(worker.tokens_per_s),
                cell(worker.revision[:8]),
                *([self._lately(worker.name)] if is_wide else []),
            )
        if not workers:
            table.add_row(Text("none is there", style="yellow"))
        return table

    def _jobs(self, jobs: Sequence[JobRecord], width: int) -> Table:
        is_wide, room = width >= _WIDE, width - _WIDE - 1
        has_room = room >= _STATE
        figures = _FIGURES if width >= _NARROW else {"rows", "errors"}
        names = ["id", "state", *(["progress"] if is_wide else [])]
        names += [name for name in _FIGURES if name in figures]
        names += [*(["lately"] if is_wide else []), *(["name, model"] if has_room else [])]
        table = _table(names, {"id": _ID, "state": _STATE, "progress": None, "name, model": room})
        for job in jobs:
            told = zip(_FIGURES, _figures(job), strict=True)
            table.add_row(
                job.id,
                _state(job.status),
                *([_bar(job)] if is_wide else []),
                *(text for name, text in told if name in figures),
                *([self._lately(job.id)] if is_wide else []),
                *([cell(", ".join(filter(None, (job.name, job.model))))] if has_room else []),
            )
        return table

    def _lately(self, name: str) -> Text:
        return Text(sparkline(self.rates.of.get(name, ()), _SPARK), style="green")


def share(wants: Sequence[int], room: int) -> list[int]:
    """Share lines out: all that is wanted where there is room, else evenly, line by line."""
    given = [0] * len(wants)
    while room > 0 and given != list(wants):
        for index, want in enumerate(wants):
            if room > 0 and given[index] < want:
                given[index] += 1
                room -= 1
    return given


def _totals(snapshot: Snapshot) -> Text:
    facts = [f"{short_number(snapshot.tokens_per_s)} tok/s"]
    facts.append(f"{counted(snapshot.running_rows, 'row')} running")
    if snapshot.waiting_rows is not None:
        facts.append(f"{snapshot.waiting_rows:,} waiting")
    if snapshot.open_jobs:
        counts = sorted(snapshot.open_jobs.items(), key=lambda item: item[0] != JobState.RUNNING)
        facts.append("jobs: " + ", ".join(f"{count:,} {state}" for state, count in counts))
    return _line(Text(" · ".join(facts)))


def _heading(name: str, shown: int, total: int, latest: str = "") -> Iterator[Text]:
    more = f"  the {shown} busiest of {latest}{total:,}" if total > shown or latest else ""
    yield Text("")
    yield _line(Text.assemble((name, "bold cyan"), (more, "dim")))


def _runs(runs: Sequence[RunRecord], width: int) -> Table:
    is_wide = width >= _WIDE
    names = ["id", "state", *(["workflow"] if is_wide else []), "steps"]
    room = width - _ID - _STATE - 2 - (_NAME + 1 if is_wide else 0)
    table = _table(names, {"id": _ID, "state": _STATE, "workflow": _NAME, "steps": room})
    for run in runs:
        flow = [cell(run.workflow)] if is_wide else []
        table.add_row(run.id, _state(run.status), *flow, _steps(run.steps))
    return table


def _steps(steps: Sequence[StepRecord]) -> Text:
    """Say of each step how far it is: what runs in per cent, what has ended in rows."""
    told = Text()
    for step in steps:
        told.append("  " if told else "")
        far = ""
        if step.state == "running" and step.num_shards:
            far = f" {step.shards_done / step.num_shards:.0%}"
        elif step.rows_out:
            far = f" {short_number(step.rows_out)}"
        text = f"{_MARKS.get(step.state, '·')}{step.id}{far}"
        told.append(text, style=_STYLES.get(step.state, "dim"))
    return told


def _figures(job: JobRecord) -> Iterator[str]:
    """Write rows, rows/s, tok/s, time left and errors; what is not known stays empty."""
    counts = job.counts
    done = counts.succeeded + counts.failed
    is_moving = job.status is JobState.RUNNING
    yield f"{_count(done)}/{_count(counts.total)}"
    yield short_number(job.rows_per_s) if is_moving and job.rows_per_s else ""
    yield short_number(job.tokens_per_s) if is_moving and job.tokens_per_s else ""
    yield short_time(job.eta_s) if is_moving and job.eta_s is not None else ""
    yield _count(counts.failed + counts.rejected) if counts.failed + counts.rejected else ""


def _bar(job: JobRecord) -> Text:
    counts = job.counts
    share_done = (counts.succeeded + counts.failed) / counts.total if counts.total else 0.0
    full = int(share_done * _BAR)
    return Text.assemble(
        ("━" * full, "green"), ("━" * (_BAR - full), "grey37"), f" {int(share_done * 100):3}%"
    )


def _state(state: JobState) -> Text:
    return Text(short_status(state), _STYLES.get(state, "dim"))


def _count(number: int) -> str:
    return f"{number:,}" if number < 10_000 else short_number(number)


def _table(columns: Sequence[str], left: Mapping[str, int | None]) -> Table:
    """Begin a table of one line a row; `left` are the columns of text, and how wide each may be."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in left else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=_ID if column == "id" else None,  # which is cut last: one wants to copy it
            max_width=left.get(column),
        )
    return table


def _line(text: Text, style: str = "") -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    text.stylize(style)
    return text
