"""The history of one row: what each step asked about it and its ancestors, and what came of it.

Reads what lies on the disk, step by step; nothing is kept for it on the way.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import UnknownJob
from ..job_dir import JobDir
from ..part_file import CorruptPart, read_part
from ..sealed_input import CorruptInput
from ..settings import Settings
from . import asking
from .asks import Answer
from .input_rows import input_rows
from .orders import Order, Share, orders_of, read_answers
from .plan import INPUT, Plan, PlannedStep
from .replanning import plan_of
from .row import Applied, Row
from .run_dir import RunDir, RunResults, RunSpec
from .shard_file import read_shard

META = "__meta"
_BEHIND_AN_ID = "~:"  # what may follow a row's id in the key of an ask


@dataclass(frozen=True, slots=True)
class RowTrace:
    """What one step did for a row, or for one that it was made from.

    `requests` and `answers` stand side by side. Where an earlier run had answered, there is what
    was asked first, said again, and no answer: the value tells it.
    """

    step: str
    row_id: str
    requests: list[dict[str, Any]]
    answers: list[Answer]
    value: Any
    meta: Any
    parents: tuple[str, ...] = ()


def trace_row(settings: Settings, run_id: str, row_id: str) -> list[RowTrace]:
    """Follow a row through the steps of a run, in their order; ancestors come before it.

    Raises:
        UnknownJob: there is no such run, or no row of that id in any of its steps.
        CorruptJob: the run cannot be read.
    """
    spec = RunDir(settings.runs_dir, run_id).read()
    plan = plan_of(spec)
    lineage = _lineage(row_id)
    orders: dict[str, list[Order]] = {}
    for order in orders_of(settings.jobs_dir, run_id):
        orders.setdefault(order.step_id, []).append(order)
    traces = [
        _trace(settings, spec, plan, step, row, shard, orders.get(step.id, []))
        for step in plan.steps
        if not step.is_internal
        for shard, row in _found(spec, plan, step, lineage)
    ]
    if not traces:
        raise UnknownJob(f"{run_id}: {row_id}")
    return traces


def _lineage(row_id: str) -> list[str]:
    """Name a row's ancestors, and itself: 17, 17/chunk#2, 17/chunk#2/cand#0."""
    names = row_id.split("/")
    return ["/".join(names[: count + 1]) for count in range(len(names))]


def _found(
    spec: RunSpec, plan: Plan, step: PlannedStep, lineage: list[str]
) -> Iterator[tuple[int, Row]]:
    """Find the rows of a step that are the row or its ancestors, and their shard."""
    wanted = set(lineage)
    for shard, path in RunResults.of(spec).step(step.id).parts().items():
        with suppress(CorruptPart):
            ids = read_part(path).column("row_id").to_pylist()
            if not wanted.isdisjoint(ids):
                rows = read_shard(path, plan.step(step.id).columns)
                yield from ((shard, row) for row in rows if row.row_id in wanted)


def _trace(
    settings: Settings,
    spec: RunSpec,
    plan: Plan,
    step: PlannedStep,
    row: Row,
    shard: int,
    orders: list[Order],
) -> RowTrace:
    requests: list[dict[str, Any]] = []
    answers: list[Answer] = []
    for order in orders:
        for share in order.shares:
            if share.shard != shard:
                continue
            bodies = _bodies(settings, order, share, row.row_id)
            with suppress(CorruptPart):  # not landed yet
                for key, answered in read_answers(spec, order, share).items():
                    if key in bodies:
                        requests.append(bodies[key])
                        answers.append(answered.answer)
    if step.kind == "ask" and not requests:
        requests = _said_again(RunDir(settings.runs_dir, spec.run_id), spec, plan, step, row, shard)
    column = step.spec.column
    value, meta = row.values.get(column), row.values.get(column + META)
    return RowTrace(step.id, row.row_id, requests, answers, value, meta, row.parents)


def _said_again(
    directory: RunDir, spec: RunSpec, plan: Plan, step: PlannedStep, row: Row, shard: int
) -> list[dict[str, Any]]:
    """Say what a row was asked at first: it follows from the row that it was made of."""
    source = step.sources[0]
    try:
        if source.startswith(INPUT):
            rows = input_rows(directory, spec, source.removeprefix(INPUT), shard)
        else:
            part = RunResults.of(spec).step(source).part(shard)
            rows = read_shard(part, plan.step(source).columns)
    except (CorruptInput, CorruptPart):  # what came of it can be told without
        return []
    made_of = [each for each in rows if each.row_id in (row.row_id, row.parent_id)]
    asks = asking.proceed(plan, step, made_of, {}, seed=spec.seed)
    if isinstance(asks, Applied):
        return []
    return [dict(ask.body) for ask in asks if _is_about(ask.key, row.row_id)]


def _bodies(
    settings: Settings, order: Order, share: Share, row_id: str
) -> dict[str, dict[str, Any]]:
    """Read what a share of an order asked about a row, by the keys of the asks."""
    found: dict[str, dict[str, Any]] = {}
    job_dir = JobDir(settings.jobs_dir, order.job_id)
    with suppress(CorruptInput), job_dir.open_input() as sealed:
        for index in share.parts(order.shard_rows):
            for row in sealed.shard(index):
                if row.custom_id is not None and _is_about(row.custom_id, row_id):
                    found[row.custom_id] = row.row["body"]
    return found


def _is_about(key: str, row_id: str) -> bool:
    rest = key.removeprefix(row_id)
    return key.startswith(row_id) and (not rest or rest[0] in _BEHIND_AN_ID)
