"""Everything that went wrong in a run, page by page: rejected lines, then what failed, by step.

Reads what lies on the disk. Of a run that goes on there may come more before a cursor, where an
earlier step has gone on meanwhile: whoever wants all of it begins anew at its end.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import InvalidJob
from ...model import RejectedLine
from ...part_file import CorruptPart
from ...settings import Settings
from ..replanning import plan_of
from ..row import Fault
from ..workshop.fault_file import fault_files, read_faults
from .run_dir import RunDir
from .run_results import RunResults

REJECTED_LINE = "rejected_line"  # the code of a line of an input that could not become a row
MAX_FILES_READ = 200  # for one page, which may be empty then, and not the last
MAX_ROWS_READ = 100_000  # for one page, and the rest of a file

_NUMBER = re.compile(r"[0-9]{1,12}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunError:
    """A line of an input that could not become a row, or a row that failed in a step."""

    code: str
    message: str
    stage: str
    step: str | None = None
    row_id: str | None = None
    outcome: str | None = None  # kept, defaulted, dropped or fatal: see `Fault`
    input: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Some errors, and where the next page begins; None at the end."""

    errors: list[RunError]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """A file of errors: the `number`th of a step, or of the inputs, which come first."""

    order: int
    number: int
    name: str
    path: Path | None = None  # of an input there is none: its directory knows it


def read_errors(
    settings: Settings,
    run_id: str,
    *,
    step: str | None = None,
    code: str | None = None,
    after: str | None = None,
    limit: int,
) -> ErrorPage:
    """Read a page of what went wrong, of one step or of all, and of one code or of all.

    Raises:
        UnknownJob: there is no such run.
        InvalidJob: it has no such step, or the cursor is none of ours.
    """
    directory = RunDir(settings.runs_dir, run_id)
    first_order, first_number, first_at = _read_cursor(after)
    errors: list[RunError] = []
    num_files = num_rows = 0
    for place in _places(directory, step):
        if (place.order, place.number) < (first_order, first_number):
            continue
        if place.path is None and code not in (None, REJECTED_LINE):
            continue
        begin = first_at if (place.order, place.number) == (first_order, first_number) else 0
        if num_files == MAX_FILES_READ or num_rows >= MAX_ROWS_READ:
            return ErrorPage(errors, _cursor(place, begin))
        num_files += 1
        for at, error in _errors_in(directory, place, begin):
            num_rows += 1
            if code not in (None, error.code):
                continue
            if len(errors) == limit:
                return ErrorPage(errors, _cursor(place, at))
            errors.append(error)
    return ErrorPage(errors, None)


def _places(directory: RunDir, step: str | None) -> Iterator[_Place]:
    """Find where errors are noted, in order."""
    spec = directory.read()
    plan = plan_of(spec)
    results = RunResults.of(spec)
    known = [each.id for each in plan.steps if not each.is_internal]
    if step is not None and step not in known:
        raise InvalidJob("step", f"the run has no step {step[:80]!r}; it has {', '.join(known)}")
    if step is None:
        for number, (name, dataset) in enumerate(spec.inputs.items()):
            if dataset.num_rejected:
                yield _Place(0, number, name)
    sources = [(each.spec.id, results.step(each.id)) for each in plan.steps]
    sources.append((plan.output_step, results.output))  # values that did not fit its columns
    for order, (name, source) in enumerate(sources, 1):
        if step in (None, name):
            for number, path in fault_files(source).items():
                yield _Place(order, number, name, path)


def _errors_in(directory: RunDir, place: _Place, begin: int) -> Iterator[tuple[int, RunError]]:
    """Read a file from where a cursor says: a byte among lines, which are many, or else a row."""
    if place.path is None:
        try:
            for at, bad in directory.rejected_from(place.name, begin):
                yield at, _rejected(place.name, bad)
        except ValueError as error:
            raise InvalidJob("after", f"after must be a page's cursor: {error}") from error
        return
    try:
        faults = read_faults(place.path)
    except CorruptPart as error:  # the others can be told, and the report counts all
        logger.error("%s; what had failed there is not told", error)
        return
    for at, fault in enumerate(faults[begin:], begin):
        yield at, _failed(place.name, fault)


def _rejected(name: str, bad: RejectedLine) -> RunError:
    return RunError(REJECTED_LINE, bad.message, "read", input=name, line=bad.line)


def _failed(step: str, fault: Fault) -> RunError:
    error = fault.error
    return RunError(error.code, error.message, error.stage, step, fault.row_id, fault.outcome)


def _cursor(place: _Place, at: int) -> str:
    return f"{place.order}.{place.number}.{at}"


def _read_cursor(text: str | None) -> tuple[int, int, int]:
    parts = (text or "0.0.0").split(".")
    if len(parts) != 3 or not all(map(_NUMBER.fullmatch, parts)):
        raise InvalidJob("after", f"after must be the cursor of a page before, got {text!r:.80}")
    order, number, at = map(int, parts)
    return order, number, at
