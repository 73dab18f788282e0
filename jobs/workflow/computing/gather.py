"""What steps make that need to see all rows: one pass over them, and a file for what is kept.

Memory stays bounded, however many rows there are. Rows keep the order of the first source; groups
are in the order in which their first rows came.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from ..meta import reads_failed
from ..orders.ordering import rank_of
from ..plan import Plan, PlannedStep
from ..row import Fault, Row
from ..spec import Concat, Dedupe, Join, Limit, Reduce, Sample
from .evaluation import render, template
from .grouping import Group, group_key, rank, reduce_group
from .ledger import Ledger, RowFailed, scope
from .local import chance, concatenated
from .matching import join_row, left_names, match_key, right_names
from .scratch import Scratch

MAX_FAULTS_TOLD = 10_000

OnFaults: TypeAlias = Callable[[Sequence[Fault]], None]


class Gathering(Iterator[Row]):
    """The rows that a step makes of all rows, one by one.

    Attributes:
        faults: what has failed up to here, the first so many of it.
        errors: how often which code came up to here, all of it.
    """

    def __init__(self, ledger: Ledger, entries: Iterator[None], on_faults: OnFaults) -> None:
        self._ledger = ledger
        self._on_faults = on_faults
        self._rows = self._made(entries)
        self.faults: list[Fault] = []
        self.errors: Counter[str] = Counter()

    def __next__(self) -> Row:
        """Return the next row."""
        return next(self._rows)

    @property
    def num_dropped(self) -> int:
        """Count rows left out on purpose up to here."""
        return self._ledger.num_dropped

    def _made(self, entries: Iterator[None]) -> Iterator[Row]:
        """Take from the ledger what each entry has added."""
        for _ in entries:
            rows, faults = self._ledger.take()
            self.errors.update(fault.error.code for fault in faults)
            self.faults += faults[: MAX_FAULTS_TOLD - len(self.faults)]
            if faults:
                self._on_faults(faults)
            yield from rows


def gather(
    plan: Plan,
    step: PlannedStep,
    sources: Sequence[Iterable[Row]],
    scratch: Path,
    on_faults: OnFaults = lambda _: None,
) -> Gathering:
    """Do the work of a step on all rows of its sources; `scratch` is a directory.

    `on_faults` is told all that fails, before the rows come that stand in for it.
    """
    ledger = Ledger(step)
    return Gathering(ledger, _entries(plan, step, sources, scratch, ledger), on_faults)


def _entries(
    plan: Plan,
    step: PlannedStep,
    sources: Sequence[Iterable[Row]],
    scratch: Path,
    ledger: Ledger,
) -> Iterator[None]:
    """Enter rows into the ledger, and pause after each, so that they do not pile up there."""
    match step.spec:
        case Limit() as spec:
            for row in islice(sources[0], spec.size):
                ledger.rows.append(row)
                yield
        case Concat():
            for place, rows in enumerate(sources):
                for row in rows:
                    ledger.rows.append(concatenated(step, row, place))
                    yield
        case Dedupe() as spec:
            with Scratch(scratch) as seen:
                for row in sources[0]:
                    _dedupe(plan, spec, row, seen, ledger)
                    yield
        case Sample() as spec:
            yield from _sampled(spec, sources[0], scratch, ledger)
        case Join() as spec:
            yield from _joined(step, spec, sources, scratch, ledger)
        case Reduce() as spec:
            yield from _reduced(plan, step, spec, sources[0], scratch, ledger)
        case _:
            raise ValueError(f"{step.id} does not need to see all rows")


def _dedupe(plan: Plan, spec: Dedupe, row: Row, seen: Scratch, ledger: Ledger) -> None:
    """Let a row pass whose key was not seen before, and one of which there is no key."""
    try:
        if reads_failed(row, template(spec.key).columns):
            ledger.rows.append(row)
            return
        key = render(spec.key, scope(plan, row))
    except RowFailed as failure:
        ledger.fail(row, failure.error, lambda _: row)
        return
    if seen.number(key)[1]:
        ledger.rows.append(row)
    else:
        ledger.num_dropped += 1


def _sampled(spec: Sample, rows: Iterable[Row], scratch: Path, ledger: Ledger) -> Iterator[None]:
    """Keep the rows that drew the lowest numbers, in the order in which they came."""
    with Scratch(scratch) as drawn:
        num_rows = 0
        for row in rows:
            drawn.add(0, row, rank_of(chance(spec.seed, row.row_id)))
            num_rows += 1
        size = spec.size or 0
        ledger.num_dropped += max(0, num_rows - size)
        for row in drawn.lowest(0, size):
            ledger.rows.append(row)
            yield


def _joined(
    step: PlannedStep,
    spec: Join,
    sources: Sequence[Iterable[Row]],
    scratch: Path,
    ledger: Ledger,
) -> Iterator[None]:
    """Keep the second source, and hold each row of the first against it as it comes."""
    with Scratch(scratch) as known:
        for row in sources[1]:
            key = match_key(right_names(spec), row)
            if key is not None:
                known.add(known.number(key)[0], row, rank_of(None))
        for row in sources[0]:
            key = match_key(left_names(spec), row)
            number = known.find(key) if key is not None else None
            found = known.rows(number, spec.max + 1) if number is not None else ()
            join_row(step, spec, row, [each.values for each in found], ledger)
            yield


def _reduced(
    plan: Plan,
    step: PlannedStep,
    spec: Reduce,
    rows: Iterable[Row],
    scratch: Path,
    ledger: Ledger,
) -> Iterator[None]:
    """Put all rows under the numbers of their groups, then make one group after the other."""
    with Scratch(scratch) as members:
        for row in rows:
            number, _ = members.number(group_key(spec, row))
            members.add(number, row, rank(plan, spec, row, ledger))
            yield
        for number in range(members.num_keys):
            with closing(members.rows(number)) as group_rows:
                reduce_group(plan, step, spec, Group(number, group_rows), ledger)
            yield
