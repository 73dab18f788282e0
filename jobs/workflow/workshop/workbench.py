"""Does a run's work, piece by piece: reads shards, computes, writes shards. Knows no Redis.

Everything it makes follows from what lies on the disk already, so any piece may be done twice, by
anybody. It runs in a process of its own (see `bench`), which people's templates may exhaust.
"""

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...durable import StorageFull
from ...errors import CorruptJob, UnknownJob
from ...found_part import set_aside
from ...part_file import CorruptPart
from ...sealed_input import CorruptInput
from ..asking import asking
from ..asks import Answer, Ask
from ..cache import RowCache
from ..computing import local
from ..earlier_answers import EarlierAnswers
from ..orders.orders import salvage_answers
from ..plan import PlannedStep
from ..retried_answers import NotTakenOver, RetriedAnswers, forget, path_of
from ..row import Applied
from ..runs.run_dir import RunDir
from ..selection import selected
from ..tools import NO_TOOLS, MissingTool, Tools
from ..typed_columns import typed_columns
from ..work import (
    AskOrSettle,
    Broken,
    Compute,
    Emit,
    Gather,
    Made,
    Missing,
    Outcome,
    Wanted,
    Work,
)
from .fault_file import write_faults
from .gathering import gather_all
from .open_run import OpenRun, Unreadable
from .settling import settle
from .shard_file import fitted, write_shard
from .shard_report import ShardReport

MAX_ROUNDS = 1_000  # of one shard of a step

_OPEN_RUNS = 8  # and as many files of each kind, however many tenants there are

logger = logging.getLogger(__name__)


class Workbench:
    """Where pieces of work are done, one at a time."""

    def __init__(self, data_dir: Path, tools: Tools = NO_TOOLS) -> None:
        self._tools = tools
        self._runs_dir = data_dir / "runs"
        self._cache_dir = data_dir / "cache"
        self._runs: OrderedDict[str, OpenRun] = OrderedDict()
        self._jobs_dir = data_dir / "jobs"
        self._caches: OrderedDict[str, RowCache] = OrderedDict()
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
                    return gather_all(run, work)
                case Emit():
                    return self._emit(run, work)
        except Unreadable as error:
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

    def _compute(self, run: OpenRun, work: Compute) -> Outcome:
        step = run.plan.step(work.step_id)
        sources = [run.rows(source, work.shard) for source in step.sources]
        applied = local.apply(run.plan, step, sources, self._tools)
        return Made(settle(run, step, work.shard, sum(map(len, sources)), applied))

    def _ask_or_settle(self, run: OpenRun, work: AskOrSettle) -> Outcome:
        step = run.plan.step(work.step_id)
        rows = run.rows(step.sources[0], work.shard)
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
                return Made(settle(run, step, work.shard, len(rows), ahead, usage))
            renewed: list[Ask] = []
            if retried is not None:
                rest = retried.sort(ahead, answers)
                ahead, renewed = rest.fresh, rest.renewed
            asks = [*earlier.find(ahead, answers), *renewed]
            if asks:
                return Wanted(tuple(asks))
        return Broken(f"{step.id}: it asks for ever", is_lasting=True)

    def _emit(self, run: OpenRun, work: Emit) -> Outcome:
        step = run.plan.step(run.plan.output_step)
        rows = [selected(run.plan, row) for row in run.rows(step.id, work.shard)]
        shard = fitted(rows, run.plan.output_columns)
        report = ShardReport(rows_in=len(rows), rows_out=len(rows)).with_faults(shard.misfits)
        place = run.results.output
        run.check_there()
        write_faults(place, work.shard, shard.misfits)
        typed = typed_columns(run.plan)
        standing = write_shard(place, work.shard, shard, report, typed=typed, has_lineage=False)
        return Made(standing)

    def _open(self, run_id: str) -> OpenRun:
        if run_id not in self._runs:
            self._runs[run_id] = OpenRun.of(RunDir(self._runs_dir, run_id))
            if len(self._runs) > _OPEN_RUNS:
                self._runs.popitem(last=False)
        self._runs.move_to_end(run_id)
        return self._runs[run_id]

    def _cache(self, run: OpenRun, step: PlannedStep) -> RowCache | None:
        """Open the tenant's earlier answers, if the step may use them."""
        if not (run.spec.use_cache and getattr(step.spec, "cache", False)):
            return None
        tenant = run.spec.tenant
        if tenant not in self._caches:
            self._caches[tenant] = RowCache.open(self._cache_dir, tenant)
            if len(self._caches) > _OPEN_RUNS:
                self._caches.popitem(last=False)[1].close()
        self._caches.move_to_end(tenant)
        return self._caches[tenant]

    def _retried(self, run: OpenRun, step: PlannedStep) -> RetriedAnswers | None:
        """Open what the step takes over from the runs that this one retries, if it retries any."""
        if run.spec.retry_of is None:
            return None
        place = run.spec.run_id, step.id
        if place not in self._retries:
            run.check_there()
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

    def _set_aside(self, run: OpenRun, error: Unreadable) -> Outcome:
        set_aside(run.results.step(error.step_id), error.shard)
        if run.plan.step(error.step_id).kind == "gather":
            run.results.forget_gathered(error.step_id)
        logger.error("%s; it is made again", error)
        return Missing(error.step_id, error.shard, str(error))


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
