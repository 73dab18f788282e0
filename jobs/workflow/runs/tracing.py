"""The history of one row: what each step asked about it and its ancestors, and what came of it.

Reads what lies on the disk, step by step; nothing is kept for it on the way.
"""

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import msgspec

from ...errors import UnknownJob
from ...job_dir import JobDir
from ...model import RequestError
from ...part_file import CorruptPart
from ...sealed_input import CorruptInput
from ...settings import Settings
from ..asking import asking
from ..asks import Answer, Ask
from ..cache import RowCache
from ..earlier_answers import EarlierAnswers
from ..input_rows import input_rows
from ..orders.orders import Order, Share, orders_of, read_answers
from ..plan import INPUT, PlannedStep
from ..replanning import plan_of
from ..retried_answers import RetriedAnswers, path_of
from ..row import Applied, Row
from ..tools import MissingTool
from ..workshop.fault_file import fault_files, read_faults
from ..workshop.shard_file import read_report, read_shard
from ..workshop.shard_report import ShardReport
from .row_places import RowPlaces
from .run_dir import RunDir
from .run_results import RunResults

META = "__meta"
_BEHIND_AN_ID = "~:"  # what may follow a row's id in the key of an ask
_CHILDREN_NAMED = 3  # of a row that no step has itself
_KEPT = 32  # shards whose rows are kept, and as many of what they asked

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class RowTrace:
    """What one step did for a row, or for one that it was made from.

    `requests` and `answers` stand side by side, also where an earlier run had answered. An answer
    that is not kept any more is told by the value that it has become.
    """

    step: str
    row_id: str
    requests: list[dict[str, Any]]
    answers: list[Answer]
    value: Any
    meta: Any
    parents: tuple[str, ...] = ()
    error: RequestError | None = None


class UnknownRow(UnknownJob):
    """No step of a run has a row of this id; `children` are some that were made of such a row."""

    def __init__(self, run_id: str, row_id: str, children: tuple[str, ...]) -> None:
        super().__init__(f"{run_id}: {row_id}")
        self.children = children


def trace_row(settings: Settings, run_id: str, row_id: str) -> list[RowTrace]:
    """Follow a row through the steps of a run, in their order; ancestors come before it.

    Raises:
        UnknownJob: there is no such run.
        UnknownRow: there is no row of that id in any of its steps.
        CorruptJob: the run cannot be read.
        InvalidJob: it lies where too much would have to be searched.
    """
    history = RunHistory(settings, run_id)
    traces = history.follow(row_id)
    if not any(trace.row_id == row_id for trace in traces):
        raise UnknownRow(run_id, row_id, history.some_children(row_id))
    return traces


class RunHistory:
    """Tells of the rows of one run. What was read lately is kept: rows of a shard go together.

    Raises:
        UnknownJob: there is no such run.
        CorruptJob: it cannot be read.
    """

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._settings = settings
        self._directory = RunDir(settings.runs_dir, run_id)
        self._spec = self._directory.read()
        self._plan = plan_of(self._spec)
        self._results = RunResults.of(self._spec)
        self._places = RowPlaces(self._directory, self._spec, self._plan)
        self._shares: dict[tuple[str, int], list[tuple[Order, Share]]] = {}
        for order in orders_of(settings.jobs_dir, run_id):
            for share in order.shares:
                self._shares.setdefault((order.step_id, share.shard), []).append((order, share))
        self._rows: OrderedDict[tuple[str, int], list[Row]] = OrderedDict()
        self._failed: OrderedDict[tuple[str, int], dict[str, RequestError]] = OrderedDict()
        self._talks: OrderedDict[tuple[str, int], _Talk] = OrderedDict()

    def follow(self, row_id: str) -> list[RowTrace]:
        """Tell what each step did for a row and for its ancestors.

        Raises:
            InvalidJob: it lies where too much would have to be searched.
        """
        lineage = _lineage(row_id)
        return [
            trace
            for step in self._plan.steps
            if not step.is_internal
            for trace in self._traces(step, lineage, frozenset(lineage))
        ]

    def of_step(self, step_id: str, row_id: str) -> RowTrace | None:
        """Tell what one step did for a row; None if it has made none of that id so far.

        Raises:
            InvalidJob: it lies where too much would have to be searched.
        """
        step = self._plan.step(step_id)
        return next(self._traces(step, _lineage(row_id), frozenset({row_id})), None)

    def some_children(self, row_id: str) -> tuple[str, ...]:
        """Name a few of the rows that the first step to do so has made of a row.

        Raises:
            InvalidJob: they lie where too much would have to be searched.
        """
        lineage = _lineage(row_id)
        for step in self._plan.steps:
            if step.is_internal:
                continue
            rows = (
                row
                for shard in self._places.shards(step, lineage)
                for row in self._rows_of(step, shard)
            )
            made = (row.row_id for row in rows if row.row_id.startswith(f"{row_id}/"))
            if found := tuple(islice(made, _CHILDREN_NAMED)):
                return found
        return ()

    def _traces(
        self, step: PlannedStep, lineage: list[str], wanted: frozenset[str]
    ) -> Iterator[RowTrace]:
        for shard in self._places.shards(step, lineage):
            failed = self._failed_in(step, shard)
            going_on = [row for row in self._rows_of(step, shard) if row.row_id in wanted]
            gone = wanted & failed.keys() - {row.row_id for row in going_on}
            for row in (*going_on, *(Row(row_id, {}) for row_id in lineage if row_id in gone)):
                yield replace(self._trace(step, shard, row), error=failed.get(row.row_id))

    def _trace(self, step: PlannedStep, shard: int, row: Row) -> RowTrace:
        said: dict[str, tuple[dict[str, Any], Answer | None]] = {}
        for order, share in self._shares.get((step.id, shard), ()):
            talk = self._talk(order, share)
            for key, answer in talk.answers.items():
                if key in talk.bodies and _is_about(key, row.row_id):
                    said[key] = talk.bodies[key], answer
        report = self._report(step, shard)
        if step.kind == "ask" and (not said or report.cached):
            said |= self._said_again(step, shard, row, report)
        column = step.spec.column
        value, meta = row.values.get(column), row.values.get(column + META)
        requests = [body for body, _ in said.values()]
        answers = [answer for _, answer in said.values() if answer is not None]
        if len(requests) == 1 and not answers and value is not None:
            answers = [Answer(text=_in_words(value), is_cached=True)]
        return RowTrace(step.id, row.row_id, requests, answers, value, meta, row.parents)

    def _said_again(
        self, step: PlannedStep, shard: int, row: Row, report: ShardReport
    ) -> dict[str, tuple[dict[str, Any], Answer | None]]:
        """Say what a row was asked where an earlier run had answered, and what that had said.

        It follows from the row that it was made of, and from what was answered so far.
        """
        made_of = self._made_of(step, shard, row)
        answers: dict[str, Answer] = {}
        for order, share in self._shares.get((step.id, shard), ()):
            answers |= self._talk(order, share).answers
        asked: dict[str, Ask] = {}
        with closing(self._earlier(step, report)) as earlier, suppress(MissingTool):
            while True:
                ahead = asking.proceed(self._plan, step, made_of, answers, seed=self._spec.seed)
                if isinstance(ahead, Applied):
                    break
                asked |= {ask.key: ask for ask in ahead if _is_about(ask.key, row.row_id)}
                earlier.find(ahead, answers)
                if not any(ask.key in answers for ask in ahead):
                    break
        return {key: (dict(ask.body), answers.get(key)) for key, ask in sorted(asked.items())}

    def _earlier(self, step: PlannedStep, report: ShardReport) -> "_Earlier":
        """Open what the step may have been answered by: by those that it retries, by any other."""
        cache = None
        if self._spec.use_cache and getattr(step.spec, "cache", False) and report.revisions:
            cache = RowCache.open(self._settings.data_dir / "cache", self._spec.tenant)
        return _Earlier(self._retried(step), EarlierAnswers(cache, report.revisions))

    def _retried(self, step: PlannedStep) -> RetriedAnswers | None:
        path = path_of(self._directory, step.id)
        if not path.exists():
            return None
        try:
            return RetriedAnswers.read(path, self._spec.run_id, step.id)
        except sqlite3.Error as error:
            logger.warning("%s is not looked into: %s", path, error)
            return None

    def _made_of(self, step: PlannedStep, shard: int, row: Row) -> list[Row]:
        """Read the row that one was made of, before the step had asked about it."""
        source = step.sources[0]
        if source.startswith(INPUT):
            try:
                rows = input_rows(self._directory, self._spec, source.removeprefix(INPUT), shard)
            except CorruptInput:  # what came of it can be told without
                return []
        else:
            rows = self._rows_of(self._plan.step(source), shard)
        return [each for each in rows if each.row_id in (row.row_id, row.parent_id)]

    def _report(self, step: PlannedStep, shard: int) -> ShardReport:
        with suppress(CorruptPart):
            return read_report(self._results.step(step.id).part(shard))
        return ShardReport()

    def _rows_of(self, step: PlannedStep, shard: int) -> list[Row]:
        """Read a shard of a step; of one that does not stand, or is damaged, there are no rows."""

        def read() -> list[Row]:
            with suppress(CorruptPart):
                return read_shard(self._results.step(step.id).part(shard), step.columns)
            return []

        return _kept(self._rows, (step.id, shard), read)

    def _failed_in(self, step: PlannedStep, shard: int) -> dict[str, RequestError]:
        """Read what failed in a shard of a step; one that gathers notes that by no shard."""

        def read() -> dict[str, RequestError]:
            path = fault_files(self._results.step(step.id)).get(shard)
            if path is None or step.kind == "gather":
                return {}
            with suppress(CorruptPart):
                return {fault.row_id: fault.error for fault in read_faults(path)}
            return {}

        return _kept(self._failed, (step.id, shard), read)

    def _talk(self, order: Order, share: Share) -> "_Talk":
        def read() -> _Talk:
            return _Talk(self._bodies(order, share), self._answers(order, share))

        return _kept(self._talks, (order.job_id, share.shard), read)

    def _bodies(self, order: Order, share: Share) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        job_dir = JobDir(self._settings.jobs_dir, order.job_id)
        with suppress(CorruptInput), job_dir.open_input() as sealed:
            for index in share.parts(order.shard_rows):
                for row in sealed.shard(index):
                    if row.custom_id is not None:
                        found[row.custom_id] = row.row["body"]
        return found

    def _answers(self, order: Order, share: Share) -> dict[str, Answer]:
        with suppress(CorruptPart):  # not landed yet
            found = read_answers(self._spec, order, share)
            return {key: each.answer for key, each in found.items()}
        return {}


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The answers of other runs."""

    retried: RetriedAnswers | None
    others: EarlierAnswers

    def find(self, asks: list[Ask], answers: dict[str, Answer]) -> None:
        """Add those that there are."""
        if self.retried is not None:
            try:
                asks = self.retried.sort(asks, answers).fresh
            except (sqlite3.Error, msgspec.MsgspecError) as error:  # told by the values instead
                logger.warning("what was answered earlier is not told: %s", error)
        self.others.find(asks, answers)

    def close(self) -> None:
        """Close the files."""
        if self.retried is not None:
            self.retried.close()
        if self.others.cache is not None:
            self.others.cache.close()


@dataclass(frozen=True, slots=True)
class _Talk:
    """What a shard asked in one order, and what was answered, by the keys of the asks."""

    bodies: dict[str, dict[str, Any]]
    answers: dict[str, Answer]


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _lineage(row_id: str) -> list[str]:
    """Name a row's ancestors, and itself: 17, 17/chunk#2, 17/chunk#2/cand#0."""
    names = row_id.split("/")
    return ["/".join(names[: count + 1]) for count in range(len(names))]


def _kept(cache: OrderedDict[K, V], key: K, read: Callable[[], V]) -> V:
    """Read something, unless that was done lately."""
    if key not in cache:
        cache[key] = read()
        if len(cache) > _KEPT:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def _is_about(key: str, row_id: str) -> bool:
    rest = key.removeprefix(row_id)
    return key.startswith(row_id) and (not rest or rest[0] in _BEHIND_AN_ID)
