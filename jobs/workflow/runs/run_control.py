"""What may be changed about a run after it was made: its name, its priority and its metadata.

`control.json` lies beside `run.json`, whose words it overrules. What models are asked for the run
follows its priority: at once what is open now, and what is asked later as well.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self, TypedDict, Unpack

from ...durable import replace_file
from ...errors import CorruptJob, InvalidJob, JobBusy, UnknownJob
from ...job_table import JobTable
from ...model import JobSnapshot
from ...sealed_json import encode_sealed, read_sealed
from ...settings import Settings
from ...steering import change
from .run_dir import RunDir
from .run_lock import run_lock
from .run_spec import RunSpec

logger = logging.getLogger(__name__)


class RunChanges(TypedDict, total=False):
    """What is to be different about a run; what is not named stays as it is."""

    name: str | None
    priority: int
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunControl:
    """All of a run that can be changed while it lives."""

    name: str | None
    priority: int
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, spec: RunSpec) -> Self:
        """Return what a run starts with."""
        return cls(spec.name, spec.priority, spec.metadata)


def read_control(directory: RunDir, spec: RunSpec) -> RunControl:
    """Read what is in force for a run.

    Raises:
        CorruptJob: the file is there, and damaged.
    """
    return read_sealed(directory.control, RunControl) or RunControl.of(spec)


def change_run(
    settings: Settings, table: JobTable, run_id: str, **changes: Unpack[RunChanges]
) -> RunControl:
    """Change what can be changed about a run; returns what is in force then.

    One that has ended can be given another name and other metadata.

    Raises:
        UnknownJob: there is no such run.
        InvalidJob: it has ended, and another priority would have no effect.
        JobBusy: somebody else is changing it, and does not come to an end.
        StorageFull: it could not be recorded, so nothing has changed.
    """
    directory = RunDir(settings.runs_dir, run_id)
    if "priority" in changes and directory.read_final() is not None:
        raise InvalidJob("priority", f"{run_id} has ended: another priority would have no effect")
    with run_lock(directory) as spec:
        before = read_control(directory, spec)
        control = replace(before, **changes)
        if control != before:
            replace_file(directory.control, encode_sealed(control))
    if "priority" in changes:
        names = [path.name for path in sorted(settings.jobs_dir.glob(f"{run_id}-*"))]
        with suppress(JobBusy):  # the advancer comes after us
            prioritize(settings, table, table.snapshots(names), control.priority)
    return control


def prioritize(
    settings: Settings, table: JobTable, orders: list[JobSnapshot | None], priority: int
) -> None:
    """Let jobs that serve a run have its priority, as far as they have not ended.

    Raises:
        JobBusy: somebody else is changing one of them just now.
    """
    for job in orders:
        if job is None or job.state.is_final or job.priority == priority:
            continue
        try:
            change(settings, table, job.job_id, priority=priority)
        except (UnknownJob, CorruptJob, InvalidJob) as error:  # it has ended meanwhile
            logger.warning("%s keeps its priority: %s", job.job_id, error)
