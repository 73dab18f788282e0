"""Running again what failed of a run: a run of its own, of the same inputs and the same workflow.

It takes over all that was answered (`retried_answers`), so that it asks what failed, and what comes
after that. What a step computes without a model, it computes again.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ...durable import fsync_file
from ...errors import CorruptJob, InvalidJob, UnknownJob
from ...job_table import JobTable
from ...model import JobState, new_job_id
from ...settings import Settings
from ...tenants import Tenants
from ..replanning import plan_of
from ..retried_answers import retried_runs
from .run_control import read_control
from .run_dir import RunDir
from .run_key import RunKey
from .run_lock import run_lock
from .run_spec import RunSpec
from .run_submission import check_models, discard, seal_run
from .runs import RunSnapshot, read_run

RETRY_OF = "retry_of"  # in the metadata of a retry


def retry_run(
    settings: Settings,
    table: JobTable,
    run_id: str,
    *,
    name: str | None = None,
    priority: int | None = None,
    served: Collection[str] | None = None,
    idempotency_key: str | None = None,
) -> RunSnapshot:
    """Make a run that asks again what failed of one that has ended; durable when this returns.

    As long as one retry of a run goes on, or of one that it retries itself, the same wish finds it;
    under the same key also when it has ended. Its priority is the old run's, or another, and no
    more than the tenant may have by now.

    Raises:
        UnknownJob: there is no such run.
        InvalidJob: it has not ended, or nothing of it has failed, or the key has made another run.
        InvalidWorkflow: a model of it is not served any more.
        CorruptJob: it is damaged.
        JobBusy: it is being retried, changed or removed, and that does not come to an end.
        StorageFull: there is no room.
    """
    directory = RunDir(settings.runs_dir, run_id)
    spec = directory.read()
    key = None if idempotency_key is None else RunKey.of(settings, spec.tenant, idempotency_key)
    if key is not None and (earlier := key.made()) is not None:
        return read_run(settings, table, _checked(settings, spec, earlier))
    if directory.durable_final() is None:
        raise InvalidJob("run_id", f"{run_id} has not ended: wait for it, or cancel it first")
    run = read_run(settings, table, run_id)
    has_failed = any(step.failed or step.defaulted for step in run.steps)
    if run.state is JobState.COMPLETED and not has_failed:
        raise InvalidJob("run_id", f"nothing of {run_id} has failed: there is nothing to retry")
    check_models(plan_of(spec), served)
    control = read_control(directory, spec)
    tenant = Tenants(settings.tenants_dir).get(spec.tenant)
    wanted = replace(
        spec,
        run_id=new_job_id("run"),
        created_at_ms=time.time_ns() // 1_000_000,
        name=name or control.name,
        priority=tenant.capped(control.priority if priority is None else priority),
        metadata={**control.metadata, RETRY_OF: run_id},
        idempotency_key=idempotency_key,
        retry_of=run_id,
    )
    with _family_lock(settings, directory) as oldest, ExitStack() as stack:
        earlier = None
        if key is not None:
            stack.enter_context(key.lock())
            earlier = key.made()
        if earlier is not None:
            made = _checked(settings, spec, earlier)
        elif (going_on := open_retry_of(settings, oldest)) is not None:
            made = RunDir(settings.runs_dir, going_on).durable_spec().run_id
            if key is not None:
                key.bind(made)  # whoever asks again after its end means this one
        else:
            made = _make(settings, directory, wanted, key)
    return read_run(settings, table, made)


def open_retry_of(settings: Settings, run_id: str) -> str | None:
    """Name a run that takes over what this one was answered, and has not ended; None if none."""
    for other in RunDir.unsettled(settings.runs_dir):
        directory = RunDir(settings.runs_dir, other)
        try:
            retried = retried_runs(settings.runs_dir, directory.read())
        except (UnknownJob, CorruptJob):  # not sealed yet, or nothing that can go on
            continue
        if run_id in (each.run_id for each in retried) and directory.read_final() is None:
            return other
    return None


@contextmanager
def _family_lock(settings: Settings, directory: RunDir) -> Iterator[str]:
    """Hold a run, lest it be removed before its retry is seen, and the oldest that it goes back to.

    Yields that one's id. It is the same for all who retry one failure, wherever they begin.
    """
    with run_lock(directory) as spec, ExitStack() as stack:
        oldest = _oldest(settings, spec)
        if oldest != spec.run_id:
            stack.enter_context(run_lock(RunDir(settings.runs_dir, oldest)))
        yield oldest


def _oldest(settings: Settings, spec: RunSpec) -> str:
    """Name the run that was the first to fail, as far back as they were not removed."""
    try:
        return next((each.run_id for each in retried_runs(settings.runs_dir, spec)), spec.run_id)
    except CorruptJob:  # the one before it is gone
        return spec.run_id


def _checked(settings: Settings, retried: RunSpec, made: str) -> str:
    """Insist that the run which a key has made is a retry of this one."""
    spec = RunDir(settings.runs_dir, made).durable_spec()
    is_retry = spec.retry_of is not None and made != retried.run_id
    if not is_retry or _oldest(settings, spec) != _oldest(settings, retried):
        raise InvalidJob(
            "idempotency_key",
            f"the idempotency key has made {made}, which is no retry of {retried.run_id}; "
            "take a new key",
        )
    return made


def _make(settings: Settings, retried: RunDir, spec: RunSpec, key: RunKey | None) -> str:
    """Seal the new run; the lock of its key, if it has one, must be held."""
    directory = RunDir(settings.runs_dir, spec.run_id)
    try:
        directory.create()
        for source in sorted(retried.inputs.iterdir()):
            target = directory.inputs / source.name
            try:
                os.link(source, target)  # it never changes
            except OSError:  # not on this file system
                shutil.copyfile(source, target)
                fsync_file(target)
        if key is not None:
            key.bind(spec.run_id)
        seal_run(directory, spec, None)  # the key's lock is held already
    except BaseException:
        discard(directory)
        raise
    return spec.run_id
