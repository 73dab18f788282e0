"""Does a run's work, piece by piece: reads shards, computes, writes shards. Knows no Redis.

Everything it makes follows from what lies on the disk already, so any piece may be done twice, by
anybody. It runs in a process of its own (see `bench`), which people's templates may exhaust.
"""

import logging
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ...durable import StorageFull, make_directories, may_exist
from ...errors import CorruptJob, UnknownJob
from ...found_part import set_aside
from ...model import RequestError
from ...part_file import CorruptPart
from ...results_dir import ResultsDir
from ...sealed_input import CorruptInput
from ..asking import asking
from ..asks import Answer, Ask
from ..cache import RowCache
from ..computing import gather, local
from ..earlier_answers import EarlierAnswers
from ..input_rows import input_rows
from ..meta import ERROR
from ..orders.orders import salvage_answers
from ..plan import INPUT, Plan, PlannedStep
from ..replanning import plan_of
from ..retried_answers import NotTakenOver, RetriedAnswers, forget, path_of
from ..row import Applied, Fault, Row
from ..runs.run_dir import RunDir
from ..runs.run_results import RunResults
from ..runs.run_spec import RunSpec
from ..selection import selected
from ..tools import NO_TOOLS, MissingTool, Tools
from ..typed_columns import typed_columns
from ..work import (
    AskOrSettle,
    Broken,
    Compute,
    Emit,
    Gather,
    Gathered,
    Made,
    Missing,
    Outcome,
    Wanted,
    Work,
)
from .fault_file import FaultFiles, write_faults
from .shard_file import FittedRows, fitted, read_report, read_shard, write_shard
from .shard_report import ShardReport, summed

MAX_ROUNDS = 1_000  # of one shard of a step

_OPEN_RUNS = 8

logger = logging.getLogger(__name__)


class _Unreadable(Exception):
    """A shard of a step is damaged or gone."""

    def __init__(self, step_id: str, shard: int, error: CorruptPart) -> None:
        super().__init__(str(error))
        self.step_id = step_id
        self.shard = shard


@dataclass(frozen=True, slots=True)
class _OpenRun:
    """What is kept of a run between its pieces."""

    directory: RunDir
    spec: RunSpec
    plan: Plan
    results: RunResults


class Workbench:
    """Where pieces of work are done, one at a time."""

    def __init__(self, data_dir: Path, tools: Tools = NO_TOOLS) -> None:
        self._tools = tools
        self._runs_dir = data_dir / "runs"
        self._cache_dir = data_dir / "cache"
        self._runs: OrderedDict[str, _OpenRun] = OrderedDict()
        self._jobs_dir = data_dir / "jobs"
        self._caches: dict[str, RowCache] = {}
        self._retries: OrderedDict[tuple[str, str], RetriedAnswers] = OrderedDict()

    def do(self, work: Work) -> Outcome:
        """Do one piece. Whatever goes wrong is told, not raised.

        Raises:
            MemoryError: this process has used up its bound; another one may do better.
        """
        try:
            run = self._open(work.run_id)
            match work:
                case Compute():
                    return self._compute(run, work)
                case AskOrSettle():
                    return self._ask_or_settle(run, work)
                case Gather():
                    return self._gather(run, work)
                case Emit():
                    return self._emit(run, work)
        except _Unreadable as error:
            return self._set_aside(self._open(work.run_id), error)
        except (UnknownJob, CorruptJob, CorruptInput, MissingTool) as error:
            return Broken(str(error), is_lasting=True)
        except MemoryError:
            raise
        except NotTakenOver as error:
            return Broken(str(error), is_lasting=False)
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):  # damaged, and not merely busy
                self._forget_retried(work)
            return Broken(f"{type(error).__name__}: {error}", is_lasting=False)
        except (OSError, StorageFull, CorruptPart) as error:
            return Broken(f"{type(error).__name__}: {error}", is_lasting=False)
        except Exception as error:
            logger.exception("a piece of %s cannot be done", work.run_id)
            return Broken(f"{type(error).__name__}: {error}", is_lasting=True)

    def _compute(self, run: _OpenRun, work: Compute) -> Outcome:
        step = run.plan.step(work.step_id)
        sources = [_rows(run, source, work.shard) for source in step.sources]
        applied = local.apply(run.plan, step, sources, self._tools)
        return Made(_settle(run, step, work.shard, sum(map(len, sources)), applied))

    def _ask_or_settle(self, run: _OpenRun, work: AskOrSettle) -> Outcome:
        step = run.plan.step(work.step_id)
        rows = _rows(run, step.sources[0], work.shard)
        earlier = EarlierAnswers(self._cache(run, step), work.revisions)
        retried = self._retried(run, step)
        answers: dict[str, Answer] = {}
        for order in work.orders:
            found = salvage_answers(run.spec, order, order.shares[0])
            for key, each in found.items():
                answers.setdefault(key, each.answer)
            earlier.keep(found.values(), order.model)
        for _ in range(MAX_ROUNDS):
            ahead = asking.proceed(
                run.plan, step, rows, answers, seed=run.spec.seed, tools=self._tools
            )
            if isinstance(ahead, Applied):
                usage = _usage(answers.values(), earlier.revisions)
                return Made(_settle(run, step, work.shard, len(rows), ahead, usage))
            renewed: list[Ask] = []
            if retried is not None:
                rest = retried.sort(ahead, answers)
                ahead, renewed = rest.fresh, rest.renewed
            asks = [*earlier.find(ahead, answers), *renewed]
            if asks:
                return Wanted(tuple(asks))
        return Broken(f"{step.id}: it asks for ever", is_lasting=True)

    def _gather(self, run: _OpenRun, work: Gather) -> Outcome:
        step = run.plan.step(work.step_id)
        known = run.results.gathered(step.id)
        if known is not None:
            place = run.results.step(step.id)
            try:
                return Gathered(known, summed(read_report(place.part(k)) for k in range(known)))
            except CorruptPart as error:
                logger.error("%s; all of the step is made again", error)
                run.results.forget_gathered(step.id)
        num_in = Counter[str]()

        def rows_of(source: str, num_shards: int) -> Iterator[Row]:
            for shard in range(num_shards):
                rows = _rows(run, source, shard)
                num_in["rows"] += len(rows)
                yield from rows

        sources = [rows_of(*each) for each in zip(step.sources, work.num_shards, strict=True)]
        scratch = run.directory.path / "scratch"
        make_directories(scratch)
        files = FaultFiles(run.results.step(step.id))
        news = ShardReport()  # about the rows that are on their way
        errors: dict[str, RequestError] = {}

        def on_faults(faults: Sequence[Fault]) -> None:
            nonlocal news
            files.add(faults)
            news = news.with_faults(faults)
            errors.update(_errors(faults))

        made = gather.gather(run.plan, step, sources, scratch, on_faults)
        reports: list[ShardReport] = []
        told = Counter[str]()
        for index, rows in enumerate(_chunks(made, run.plan.shard_rows)):
            shard = fitted(rows, step.columns)
            on_faults(shard.misfits)
            report = replace(
                news,
                rows_in=num_in["rows"] - told["rows"],
                rows_out=len(rows),
                dropped=made.num_dropped - told["dropped"],
            )
            told.update(rows=report.rows_in, dropped=report.dropped)
            news = ShardReport()
            here = {row.row_id: errors.pop(row.row_id) for row in rows if row.row_id in errors}
            reports.append(_write(run, step, index, shard, report, here))
        files.close()
        run.results.note_gathered(step.id, len(reports))
        return Gathered(len(reports), summed(reports))

    def _emit(self, run: _OpenRun, work: Emit) -> Outcome:
        step = run.plan.step(run.plan.output_step)
        rows = [selected(run.plan, row) for row in _rows(run, step.id, work.shard)]
        shard = fitted(rows, run.plan.output_columns)
        report = ShardReport(rows_in=len(rows), rows_out=len(rows)).with_faults(shard.misfits)
        place = run.results.output
        _check_there(run)
        write_faults(place, work.shard, shard.misfits)
        typed = typed_columns(run.plan)
        standing = write_shard(place, work.shard, shard, report, typed=typed, has_lineage=False)
        return Made(standing)

    def _open(self, run_id: str) -> _OpenRun:
        if run_id not in self._runs:
            directory = RunDir(self._runs_dir, run_id)
            spec = directory.read()
            self._runs[run_id] = _OpenRun(directory, spec, plan_of(spec), RunResults.of(spec))
            if len(self._runs) > _OPEN_RUNS:
                self._runs.popitem(last=False)
        self._runs.move_to_end(run_id)
        return self._runs[run_id]

    def _cache(self, run: _OpenRun, step: PlannedStep) -> RowCache | None:
        """Open the tenant's earlier answers, if the step may use them."""
        if not (run.spec.use_cache and getattr(step.spec, "cache", False)):
            return None
        tenant = run.spec.tenant
        if tenant not in self._caches:
            self._caches[tenant] = RowCache.open(self._cache_dir, tenant)
        return self._caches[tenant]

    def _retried(self, run: _OpenRun, step: PlannedStep) -> RetriedAnswers | None:
        """Open what the step takes over from the runs that this one retries, if it retries any."""
        if run.spec.retry_of is None:
            return None
        place = run.spec.run_id, step.id
        if place not in self._retries:
            _check_there(run)
            path = path_of(run.directory, step.id)
            self._retries[place] = RetriedAnswers.open(path, *place)
            if len(self._retries) > _OPEN_RUNS:
                self._retries.popitem(last=False)[1].close()
        self._retries.move_to_end(place)
        self._retries[place].fill(self._runs_dir, run.spec, self._jobs_dir)
        return self._retries[place]

    def _forget_retried(self, work: Work) -> None:
        """Let what a step takes over be filled anew."""
        if isinstance(work, AskOrSettle):
            opened = self._retries.pop((work.run_id, work.step_id), None)
            if opened is not None:
                opened.close()
            forget(path_of(self._open(work.run_id).directory, work.step_id))

    def _set_aside(self, run: _OpenRun, error: _Unreadable) -> Outcome:
        set_aside(run.results.step(error.step_id), error.shard)
        if run.plan.step(error.step_id).kind == "gather":
            run.results.forget_gathered(error.step_id)
        logger.error("%s; it is made again", error)
        return Missing(error.step_id, error.shard, str(error))


def _rows(run: _OpenRun, source: str, shard: int) -> list[Row]:
    """Read a shard of a step, or of an input."""
    if source.startswith(INPUT):
        return input_rows(run.directory, run.spec, source.removeprefix(INPUT), shard)
    path = run.results.step(source).part(shard)
    try:
        return read_shard(path, run.plan.step(source).columns)
    except CorruptPart as error:
        raise _Unreadable(source, shard, error) from error


def _settle(
    run: _OpenRun,
    step: PlannedStep,
    index: int,
    num_in: int,
    applied: Applied,
    usage: ShardReport = ShardReport(),  # noqa: B008 - it is frozen
) -> ShardReport:
    """Write a shard of a step, and what failed in it."""
    shard = fitted(applied.rows, step.columns)
    faults = [*applied.faults, *shard.misfits]
    report = replace(
        usage, rows_in=num_in, rows_out=len(applied.rows), dropped=applied.num_dropped
    ).with_faults(faults)
    _check_there(run)
    write_faults(run.results.step(step.id), index, faults)
    return _write(run, step, index, shard, report, _errors(faults))


def _write(
    run: _OpenRun,
    step: PlannedStep,
    index: int,
    shard: FittedRows,
    report: ShardReport,
    errors: Mapping[str, RequestError],
) -> ShardReport:
    place: ResultsDir = run.results.step(step.id)
    _check_there(run)
    return write_shard(place, index, shard, report, errors, step.spec.column + ERROR)


def _check_there(run: _OpenRun) -> None:
    """See to it that nothing is written of a run that somebody has removed meanwhile."""
    if not may_exist(run.directory.spec):
        raise UnknownJob(run.spec.run_id)


def _errors(faults: Sequence[Fault]) -> dict[str, RequestError]:
    """Return why rows stand in for others, or for themselves."""
    return {fault.stand_in: fault.error for fault in faults if fault.stand_in is not None}


def _usage(answers: Iterable[Answer], revisions: Mapping[str, str]) -> ShardReport:
    answers = list(answers)
    computed = [answer for answer in answers if not answer.is_cached]
    num_cached = len(answers) - len(computed)
    return ShardReport(
        asked=len(answers),
        cached=num_cached,
        prompt_tokens=sum(answer.prompt_tokens for answer in computed),
        completion_tokens=sum(answer.completion_tokens for answer in computed),
        cached_tokens=sum(answer.cached_tokens for answer in computed),
        revisions=revisions if num_cached else {},
    )


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Cut rows into shards; of none there is one, so that its columns can be read.

    The next one is there before each is told: once the last is told, there was no row after it.
    """
    chunk = list(islice(rows, size))
    while following := list(islice(rows, size)):
        yield chunk
        chunk = following
    yield chunk
