"""What a step made of a shard, on its way to the disk: what failed first, then its rows.

So whoever sees a shard sees all that failed in it. Knows no step's meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...model import RequestError
from ..meta import ERROR
from ..plan import PlannedStep
from ..row import Applied, Fault
from .fault_file import write_faults
from .open_run import OpenRun
from .shard_file import FittedRows, fitted, write_shard
from .shard_report import ShardReport

_NOTHING_USED = ShardReport()


def settle(
    run: OpenRun,
    step: PlannedStep,
    index: int,
    num_in: int,
    applied: Applied,
    usage: ShardReport = _NOTHING_USED,
) -> ShardReport:
    """Write what a step made of a shard, and what failed in it; returns the report that stands.

    Raises:
        StorageFull: there is no room.
        UnknownJob: the run is gone.
    """
    shard = fitted(applied.rows, step.columns)
    faults = [*applied.faults, *shard.misfits]
    report = replace(
        usage, rows_in=num_in, rows_out=len(applied.rows), dropped=applied.num_dropped
    ).with_faults(faults)
    run.check_there()
    write_faults(run.results.step(step.id), index, faults)
    return write(run, step, index, shard, report, stand_ins(faults))


def write(
    run: OpenRun,
    step: PlannedStep,
    index: int,
    shard: FittedRows,
    report: ShardReport,
    errors: Mapping[str, RequestError],
) -> ShardReport:
    """Write a shard of a step; returns the report that stands.

    Raises:
        StorageFull: there is no room.
        UnknownJob: the run is gone.
    """
    run.check_there()
    place = run.results.step(step.id)
    return write_shard(place, index, shard, report, errors, step.spec.column + ERROR)


def stand_ins(faults: Sequence[Fault]) -> dict[str, RequestError]:
    """Return why rows stand in for others, or for themselves."""
    return {fault.stand_in: fault.error for fault in faults if fault.stand_in is not None}
