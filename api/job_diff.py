"""What is compared of two jobs, or of two runs, and what pairs their rows. Knows no transport."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

from .client_errors import InvalidInput
from .job import Job
from .row_diff import RowDiff
from .row_metrics import Metric
from .row_pairs import Row, pairs_by_key
from .workflow_run import WorkflowRun

_AT_LEAST = 0.9

_Choice = TypeVar("_Choice", bound=StrEnum)


class On(StrEnum):
    """What pairs rows: their place in the input, or the id that they have."""

    ROW_INDEX = "row_index"
    ID = "id"


def diff_of(
    a: Job | WorkflowRun,
    b: Job | WorkflowRun,
    *,
    on: str | None = None,
    columns: Sequence[str] | None = None,
    metric: str = Metric.EXACT,
    at_least: float = _AT_LEAST,
) -> RowDiff:
    """Begin to compare; what is given yields the rows that differ, and then has the sums.

    Args:
        on: `row_index`, or `id`, which is `custom_id` of a job's rows and `row_id` of a run's;
            unless told, the one of jobs and the other of runs.
        columns: which are compared; `output` of jobs and all of runs, unless told.
        metric: see `Metric`.
        at_least: the likeness from which values are the same to the metric `similarity`.

    Raises:
        InvalidInput: the two cannot be compared so.
    """
    if isinstance(a, Job) != isinstance(b, Job):
        raise InvalidInput(f"a job and a run have no rows in common: {a.id} and {b.id}")
    chosen = _one_of(Metric, metric, "metric")
    how = {
        "metric": chosen,
        "at_least": at_least if chosen is Metric.SIMILARITY else 1.0,
        "columns": columns or (["output"] if isinstance(a, Job) else None),
    }
    usual = On.ROW_INDEX if isinstance(a, Job) else On.ID
    pairing = _one_of(On, on, "on") if on else usual
    first, second = a.results(follow=False), b.results(follow=False)
    if pairing is On.ID:
        if isinstance(a, WorkflowRun) and isinstance(b, WorkflowRun):
            faults = pairs_by_key(_faults(a), _faults(b), _place_of)
            return RowDiff.by_column(first, second, "row_id", faults=faults, **how)
        return RowDiff.by_column(first, second, "custom_id", **how)
    if not isinstance(a, Job):
        raise InvalidInput("rows of a run have no place in its input: pair them by id")
    return RowDiff.in_order(first, second, **how)


def _faults(run: WorkflowRun) -> Iterator[Row]:
    """Yield what a run counts as failed: neither rejected lines nor what a default stands in for.

    Its rows do not tell: many a one that fails is in no output.
    """
    return (each for each in run.errors() if "step" in each and each.get("outcome") != "defaulted")


def _place_of(fault: Row) -> str:
    return f"{fault['step']} {fault['row_id']}"


def _one_of(kind: type[_Choice], value: str, name: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(kind)
        raise InvalidInput(f"{name} must be one of {known}, got {value!r}") from None
