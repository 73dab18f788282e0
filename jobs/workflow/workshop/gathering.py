"""Does the work of a step that needs to see all rows: all of its shards, in one piece of work.

How many there are is noted last: until then they count for nothing, and are made again.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ...durable import make_directories
from ...model import RequestError
from ...part_file import CorruptPart
from ..computing import gather
from ..row import Fault, Row
from ..work import Gather, Gathered
from .fault_file import FaultFiles
from .open_run import OpenRun
from .settling import stand_ins, write
from .shard_file import fitted, read_report
from .shard_report import ShardReport, summed

logger = logging.getLogger(__name__)


def gather_all(run: OpenRun, work: Gather) -> Gathered:
    """Do the work of a step that gathers; its shards stand then, and how many they are.

    Raises:
        Unreadable: a shard that it reads is damaged or gone.
        StorageFull: there is no room.
        UnknownJob: the run is gone.
    """
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
            rows = run.rows(source, shard)
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
        errors.update(stand_ins(faults))

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
        reports.append(write(run, step, index, shard, report, here))
    files.close()
    run.results.note_gathered(step.id, len(reports))
    return Gathered(len(reports), summed(reports))


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Cut rows into shards; of none there is one, so that its columns can be read.

    The next one is there before each is told: once the last is told, there was no row after it.
    """
    chunk = list(islice(rows, size))
    while following := list(islice(rows, size)):
        yield chunk
        chunk = following
    yield chunk
