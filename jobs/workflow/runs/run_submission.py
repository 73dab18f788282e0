"""Submission of runs: from a workflow and its inputs to a sealed run on disk.

    check the workflow -> seal the inputs -> run.json, fsync -> the advancer finds it

Whatever fails on the way, no half of a run stays behind. It blocks: call it in a thread.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa

from ...column_schema import lost_types
from ...columns import ColumnTypes
from ...destination import destination
from ...durable import fsync_file, storage_errors
from ...errors import InvalidJob
from ...inputs import InputRow, InputRows
from ...job_table import JobTable
from ...model import DEFAULT_PRIORITY, RejectedLine, new_job_id
from ...same_input import is_same_input
from ...sealed_input import InputSealer
from ...settings import Settings
from ...sources import FileSource, Source
from ...submission import input_items
from ..checks.check import InvalidWorkflow, Problem, check
from ..checks.text_numbers import check_text_numbers
from ..plan import ColumnKind, Plan
from ..spec import Workflow
from .run_dir import RunDir
from .run_key import RunKey
from .run_results import RunResults
from .run_spec import RunSpec, SealedDataset
from .runs import RunSnapshot, read_run

MAX_COLUMNS = 1_000
PEEKED_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is to be run, on what. `first_rows` takes only so many rows of each input."""

    workflow: Workflow
    sources: Mapping[str, Source]
    params: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = "default"
    priority: int = DEFAULT_PRIORITY
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    first_rows: int | None = None
    seed: int = 0
    use_cache: bool = True
    out: str | None = None
    formats: Mapping[str, str] = field(default_factory=dict)
    served: Collection[str] | None = None  # the models that may be asked; None: whichever


def submit_run(settings: Settings, table: JobTable, request: RunRequest) -> RunSnapshot:
    """Make a run, durably; when this returns, its rows cannot be lost any more.

    Raises:
        InvalidWorkflow: the workflow cannot run on these inputs; it names all that is wrong.
        InvalidJob: something else about the request; `param` names the part at fault.
        UnreadableInput: an input as a whole cannot be read.
        JobBusy: another run is being made under the same key, and does not come to an end.
        StorageFull: there is no room.
    """
    key = None
    if request.idempotency_key is not None:
        key = RunKey.of(settings, request.tenant, request.idempotency_key)
        if (made := key.made()) is not None:
            return _found(settings, table, made, request)
    where = destination(settings, request.out or _sink(request.workflow))
    _check_sources(request)
    run_id = new_job_id("run")
    directory = RunDir(settings.runs_dir, run_id)
    try:
        directory.create()
        peeked = {name: _peek(_items(settings, request, name)) for name in request.sources}
        plan = check(request.workflow, request.params, {n: p.columns for n, p in peeked.items()})
        check_text_numbers(plan, {name: each.schema for name, each in peeked.items()})
        check_models(plan, request.served)
        inputs: dict[str, SealedDataset] = {}
        for name in request.sources:
            items = _items(settings, request, name)
            inputs[name] = _seal(directory, name, items, plan.shard_rows, request.first_rows)
        check(request.workflow, request.params, {name: d.columns for name, d in inputs.items()})
        spec = RunSpec(
            run_id=run_id,
            workflow=request.workflow,
            params=dict(request.params),
            inputs=inputs,
            out=where.directory,
            out_url=where.url,
            created_at_ms=time.time_ns() // 1_000_000,
            tenant=request.tenant,
            priority=request.priority,
            name=request.name,
            metadata=dict(request.metadata),
            seed=request.seed,
            use_cache=request.use_cache,
            is_preview=request.first_rows is not None,
            idempotency_key=request.idempotency_key,
        )
        quicker = seal_run(directory, spec, key)
    except BaseException:
        discard(directory)
        raise
    if quicker is not None:
        discard(directory)
        return _found(settings, table, quicker, request)
    return read_run(settings, table, run_id)


def seal_run(directory: RunDir, spec: RunSpec, key: RunKey | None) -> str | None:
    """Make the directory a run, unless its key has made one meanwhile; that one is named."""
    results = RunResults.of(spec)
    directory.link_results(results.path)
    results.output.create()
    if key is None:
        directory.seal(spec)
        return None
    with key.lock():
        quicker = key.made()
        if quicker is None:
            key.bind(spec.run_id)
            directory.seal(spec)
    return quicker


def discard(directory: RunDir) -> None:
    """Leave nothing of a run that is not to be, nor of where its rows were to land."""
    path = directory.linked_results()
    directory.remove()
    if path is not None:
        RunResults(path.parent, directory.run_id).remove()


def _found(settings: Settings, table: JobTable, run_id: str, request: RunRequest) -> RunSnapshot:
    """Answer with the run that the key has made, if it is the one that is asked for."""
    spec = RunDir(settings.runs_dir, run_id).durable_spec()
    if (spec.workflow, dict(spec.params)) != (request.workflow, dict(request.params)):
        raise InvalidJob(
            "idempotency_key",
            f"idempotency_key {request.idempotency_key!r} has made {run_id}, which is of another "
            "workflow or has other params; take a new key for a new run",
        )
    if not _brings_inputs_of(settings, spec, request):
        raise InvalidJob(
            "idempotency_key",
            f"idempotency_key {request.idempotency_key!r} has made {run_id} of other rows; take a "
            "new key for a new run",
        )
    return read_run(settings, table, run_id)


def _brings_inputs_of(settings: Settings, spec: RunSpec, request: RunRequest) -> bool:
    """Read the inputs, which may have been read before, and hold them against those of a run."""
    directory = RunDir(settings.runs_dir, spec.run_id)
    return set(request.sources) == set(spec.inputs) and all(
        is_same_input(
            directory.input(name),
            directory.read_rejected(name),
            islice(_items(settings, request, name), request.first_rows),
        )
        for name in spec.inputs
    )


def _sink(workflow: Workflow) -> str | None:
    return workflow.output.sink.uri if workflow.output.sink is not None else None


def _check_sources(request: RunRequest) -> None:
    """Insist that every input is brought, and nothing else."""
    declared = set(request.workflow.inputs)
    for name in sorted(set(request.sources) - declared):
        raise InvalidJob(f"inputs.{name}", f"the workflow has no input {name!r}")
    for name in sorted(declared - set(request.sources)):
        raise InvalidJob(f"inputs.{name}", f"the workflow's input {name!r} is missing")


def _items(settings: Settings, request: RunRequest, name: str) -> InputRows:
    source = request.sources[name]
    if isinstance(source, FileSource):
        source.file.seek(0)
    return input_items(settings, source, request.formats.get(name))


@dataclass(frozen=True, slots=True)
class _Peeked:
    """What shows of an input before all of it is read; `schema` is what it says of itself."""

    columns: Mapping[str, ColumnKind]
    schema: pa.Schema | None


def _peek(items: InputRows) -> _Peeked:
    """Learn the columns from the first rows: most of what is wrong shows before all are read."""
    columns = ColumnTypes()
    for item in islice(items, PEEKED_ROWS):
        if isinstance(item, InputRow):
            columns.add(item.row)
    return _Peeked(_kinds(columns), items.arrow_schema)


def check_models(plan: Plan, served: Collection[str] | None) -> None:
    """Refuse what would wait for ever: a model that nobody serves.

    Raises:
        InvalidWorkflow: naming each step that asks one.
    """
    if served is None:
        return
    known = ", ".join(sorted(served)) or "none"
    problems = [
        Problem(f"steps.{step.id}.model", f"{model!r} is not served here; served: {known}")
        for step in plan.steps
        for model in step.models
        if model not in served
    ]
    if problems:
        raise InvalidWorkflow(problems)


def _kinds(columns: ColumnTypes) -> dict[str, ColumnKind]:
    return {name: kind.value for name, kind in columns.settled().items()}


def _seal(
    directory: RunDir, name: str, items: InputRows, shard_rows: int, first_rows: int | None
) -> SealedDataset:
    """Stream an input, or its first rows, into the run's directory, and say what is in it."""
    columns = ColumnTypes()
    num_rejected, first = 0, None
    path = directory.input(name)
    with storage_errors(path), directory.rejected(name).open("wb") as rejected:
        sealer = InputSealer(path, shard_rows)
        try:
            for row_index, item in enumerate(islice(items, first_rows)):
                if isinstance(item, RejectedLine):
                    num_rejected, first = num_rejected + 1, first or item
                    rejected.write(msgspec.json.encode(item) + b"\n")
                    continue
                columns.add(item.row)
                if len(columns) > MAX_COLUMNS:
                    raise InvalidJob(f"inputs.{name}", f"has more than {MAX_COLUMNS} columns")
                sealer.add(row_index, None, msgspec.json.encode(item.row).decode())
            sealer.close()
        except BaseException:
            sealer.abandon()
            raise
    if sealer.num_rows == 0:
        why = f": line {first.line} {first.message}" if first is not None else ""
        raise InvalidJob(f"inputs.{name}", f"the input has no usable rows{why}")
    fsync_file(path)
    fsync_file(directory.rejected(name))
    types, lost = columns.settled(), None
    if items.arrow_schema is not None:
        lost = lost_types(types, {column: column for column in types}, items.arrow_schema)
    return SealedDataset(
        sealer.num_rows, sealer.num_shards, _kinds(columns), num_rejected, arrow_schema=lost
    )
