"""Does a run's work, piece by piece: reads shards, computes, writes shards. Knows no Redis.

Everything it makes follows from what lies on the disk already, so any piece may be done twice, by
anybody. It runs in a process of its own (see `bench`), which people's templates may exhaust.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ...durable import StorageFull, make_directories, may_exist
from ...errors import CorruptJob, UnknownJob
from ...found_part import set_aside
from ...part_file import CorruptPart
from ...results_dir import ResultsDir
from ...sealed_input import CorruptInput
from ..asking import asking
from ..asks import Answer
from ..cache import RowCache
from ..computing import gather, local
from ..earlier_answers import EarlierAnswers
from ..input_rows import input_rows
from ..orders.orders import salvage_answers
from ..plan import INPUT, Plan, PlannedStep
from ..replanning import plan_of
from ..row import Applied, Fault, Row
from ..runs.run_dir import RunDir, RunResults, RunSpec
from ..selection import selected
from ..tools import NO_TOOLS, MissingTool, Tools
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
from .shard_file import (
    MAX_EXAMPLES,
    ShardReport,
    ToldFault,
    read_report,
    read_shard,
    summed,
    write_shard,
)

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
        self._caches: dict[str, RowCache] = {}

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
        except (OSError, StorageFull, CorruptPart) as error:
            return Broken(f"{type(error).__name__}: {error}", is_lasting=False)
        except Exception as error:
            logger.exception("a piece of %s cannot be done", work.run_id)
            return Broken(f"{type(error).__name__}: {error}", is_lasting=True)

    def _compute(self, run: _OpenRun, work: Compute) -> Outcome:
        step = run.plan.step(work.step_id)
        sources = [_rows(run, source, work.shard) for source in step.sources]
        applied = local.apply(run.plan, step, sources, self._tools)
        report = _report(step, sum(map(len, sources)), applied)
        return Made(_write(run, step, work.shard, applied.rows, report))

    def _ask_or_settle(self, run: _OpenRun, work: AskOrSettle) -> Outcome:
        step = run.plan.step(work.step_id)
        rows = _rows(run, step.sources[0], work.shard)
        earlier = EarlierAnswers(self._cache(run, step), work.revisions)
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
                report = _with_usage(_report(step, len(rows), ahead), answers.values())
                return Made(_write(run, step, work.shard, ahead.rows, report))
            asks = earlier.find(ahead, answers)
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
        made = gather.gather(run.plan, step, sources, scratch)
        reports: list[ShardReport] = []
        before = ShardReport()
        for shard, rows in enumerate(_chunks(made, run.plan.shard_rows)):
            now = _gathered_report(step, num_in["rows"], made)
            report = replace(_since(before, now), rows_out=len(rows))
            reports.append(_write(run, step, shard, rows, report))
            before = now
        run.results.note_gathered(step.id, len(reports))
        return Gathered(len(reports), summed(reports))

    def _emit(self, run: _OpenRun, work: Emit) -> Outcome:
        step = run.plan.step(run.plan.output_step)
        rows = [selected(run.plan, row) for row in _rows(run, step.id, work.shard)]
        report = ShardReport(rows_in=len(rows), rows_out=len(rows))
        place, columns = run.results.output, run.plan.output_columns
        _check_there(run)
        return Made(write_shard(place, work.shard, rows, columns, report, has_lineage=False))

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


def _write(
    run: _OpenRun, step: PlannedStep, shard: int, rows: Sequence[Row], report: ShardReport
) -> ShardReport:
    place: ResultsDir = run.results.step(step.id)
    _check_there(run)
    return write_shard(place, shard, rows, step.columns, report)


def _check_there(run: _OpenRun) -> None:
    """See to it that nothing is written of a run that somebody has removed meanwhile."""
    if not may_exist(run.directory.spec):
        raise UnknownJob(run.spec.run_id)


def _report(step: PlannedStep, num_in: int, applied: Applied) -> ShardReport:
    return ShardReport(
        rows_in=num_in,
        rows_out=len(applied.rows),
        dropped=applied.num_dropped,
        failed=len(applied.faults),
        errors=dict(Counter(fault.error.code for fault in applied.faults)),
        fatal=_fatal(step, applied.faults),
        examples=_examples(applied.faults),
    )


def _gathered_report(step: PlannedStep, num_in: int, made: gather.Gathering) -> ShardReport:
    """Report on all rows up to here."""
    return ShardReport(
        rows_in=num_in,
        dropped=made.num_dropped,
        failed=made.errors.total(),
        errors=dict(made.errors),
        fatal=_fatal(step, made.faults),
        examples=_examples(made.faults),
    )


def _since(before: ShardReport, now: ShardReport) -> ShardReport:
    """Return what has come to a report, so that those of all shards add up."""
    return replace(
        now,
        rows_in=now.rows_in - before.rows_in,
        dropped=now.dropped - before.dropped,
        failed=now.failed - before.failed,
        errors=dict(Counter(now.errors) - Counter(before.errors)),
        examples=now.examples[len(before.examples) :],
    )


def _fatal(step: PlannedStep, faults: Sequence[Fault]) -> ToldFault | None:
    """Return the fault that ends the run, if the step may not fail."""
    if not faults or step.on_error != "fail":
        return None
    return _told(faults[0])


def _examples(faults: Sequence[Fault]) -> tuple[ToldFault, ...]:
    return tuple(map(_told, faults[:MAX_EXAMPLES]))


def _told(fault: Fault) -> ToldFault:
    return fault.row_id, fault.error.code, fault.error.message


def _with_usage(report: ShardReport, answers: Iterable[Answer]) -> ShardReport:
    answers = list(answers)
    computed = [answer for answer in answers if not answer.is_cached]
    return replace(
        report,
        asked=len(answers),
        cached=len(answers) - len(computed),
        prompt_tokens=sum(answer.prompt_tokens for answer in computed),
        completion_tokens=sum(answer.completion_tokens for answer in computed),
        cached_tokens=sum(answer.cached_tokens for answer in computed),
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
