"""What a step asks, as bulk jobs like any other; and what came of them. Knows no template.

An order is a job whose rows bring their own requests (`body`), and whose `custom_id`s are the keys
of the asks. It serves many shards of a step, and says in its metadata which rows are whose: so the
job directory alone tells what has been asked, and a run goes on from that wherever it was stopped.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...durable import may_exist
from ...errors import CorruptJob, UnknownJob
from ...found_part import set_aside
from ...job_dir import JobDir
from ...model import EMBED, ColumnType, JobSpec, RequestError, TaskSpec, spec_version
from ...part_file import CorruptPart, read_part
from ...results_dir import ResultsDir
from ...sealed_input import LARGE_SHARD_ROWS, SMALL_SHARD_ROWS, InputSealer
from ...vectors import pack
from ..asks import Answer, Ask
from ..runs.run_results import RunResults
from ..runs.run_spec import RunSpec
from .order_numbers import OrderNumbers

RUN = "penstock.run"
STEP = "penstock.step"
SHARES = "penstock.shares"
CACHE_KEY = "cache_key"  # the column that brings an answer's key along
LARGE_ORDER_ROWS = 8_192

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of an order that one shard of the step has asked: [first, first + num_rows)."""

    shard: int
    first: int
    num_rows: int

    def parts(self, shard_rows: int) -> range:
        """Name the shards of the order that hold them."""
        return range(self.first // shard_rows, (self.first + self.num_rows - 1) // shard_rows + 1)


@dataclass(frozen=True, slots=True)
class Order:
    """A job that was made for a step."""

    job_id: str
    step_id: str
    model: str
    num_shards: int
    shard_rows: int
    shares: tuple[Share, ...]

    @property
    def num_rows(self) -> int:
        """Count its requests."""
        return sum(share.num_rows for share in self.shares)

    def shard_of(self, row_index: int) -> int | None:
        """Name the shard of the step that has asked one of its rows."""
        for share in self.shares:
            if share.first <= row_index < share.first + share.num_rows:
                return share.shard
        return None


def place_order(
    numbers: OrderNumbers,
    run: RunSpec,
    step_id: str,
    place: int,
    shares: Sequence[tuple[int, Sequence[Ask]]],
    priority: int,
) -> JobSpec:
    """Make the job that asks what some shards of a step ask of one model; it is durable then.

    Raises:
        StorageFull: there is no room; there is no such job.
    """
    first_ask = shares[0][1][0]
    num_rows = sum(len(asks) for _, asks in shares)
    job_dir = numbers.create(place)
    results = ResultsDir(RunResults.of(run).asks / job_dir.job_id)
    try:
        job_dir.link_results(results.path)
        results.create()
        job_dir.bad_lines.touch()
        large = num_rows >= LARGE_ORDER_ROWS
        sealer = InputSealer(job_dir.input, LARGE_SHARD_ROWS if large else SMALL_SHARD_ROWS)
        taken: list[Share] = []
        for shard, asks in shares:
            taken.append(Share(shard, sealer.num_rows, len(asks)))
            for ask in asks:
                body = {"body": ask.body, "url": ask.url, CACHE_KEY: ask.cache_key or None}
                sealer.add(sealer.num_rows, ask.key, msgspec.json.encode(body).decode())
        sealer.close()
        task = TaskSpec(model=first_ask.model, endpoint=EMBED if first_ask.url == EMBED else None)
        spec = JobSpec(
            job_id=job_dir.job_id,
            task=task,
            num_rows=sealer.num_rows,
            num_shards=sealer.num_shards,
            shard_rows=sealer.shard_rows,
            columns={CACHE_KEY: ColumnType.STRING},
            out=str(results.path.parent),
            created_at_ms=time.time_ns() // 1_000_000,
            name=f"{run.name or run.workflow.name}/{step_id}",
            tenant=run.tenant,
            priority=priority,
            metadata={RUN: run.run_id, STEP: step_id, SHARES: msgspec.json.encode(taken).decode()},
            version=spec_version(task, {"body"}),
        )
        job_dir.seal(spec)
    except BaseException:
        job_dir.remove()
        results.remove()
        raise
    return spec


def order_of(spec: JobSpec) -> Order:
    """Read an order from its job."""
    shares = msgspec.json.decode(spec.metadata[SHARES], type=tuple[Share, ...])
    return Order(
        spec.job_id,
        spec.metadata[STEP],
        spec.task.model,
        spec.num_shards,
        spec.shard_rows,
        shares,
    )


def orders_of(jobs_dir: Path, run_id: str) -> Iterator[Order]:
    """Find all orders of a run on disk, in the order in which they were placed."""
    for path in sorted(jobs_dir.glob(f"{run_id}-*")):
        with suppress(UnknownJob, CorruptJob):  # half made, or damaged: it is asked again
            yield order_of(JobDir(jobs_dir, path.name).read_spec())


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and the key under which it may be kept for later runs."""

    answer: Answer
    cache_key: str | None


def read_answers(run: RunSpec, order: Order, share: Share) -> dict[str, Answered]:
    """Read what became of a share whose parts have landed, by the keys of its asks.

    Raises:
        CorruptPart: a part is gone, or its bytes have changed.
    """
    answers: dict[str, Answered] = {}
    for index in share.parts(order.shard_rows):
        answers |= _read_part(_results(run, order).part(index), share)
    return answers


def salvage_answers(run: RunSpec, order: Order, share: Share) -> dict[str, Answered]:
    """Read them as `read_answers` does, but set damaged parts aside: their asks are asked again.

    Raises:
        StorageFull: there is no room to set one aside.
    """
    results = _results(run, order)
    answers: dict[str, Answered] = {}
    for index in share.parts(order.shard_rows):
        try:
            answers |= _read_part(results.part(index), share)
        except CorruptPart as error:
            logger.error("%s; what it had answered is asked again", error)
            if may_exist(results.part(index)):
                set_aside(results, index)
    return answers


def answers_in(run: RunSpec, order: Order, part: int) -> dict[int, Answer]:
    """Read one part of an order, whosever rows it holds, by their numbers.

    Raises:
        CorruptPart: it has not landed, is gone, or its bytes have changed.
    """
    rows = read_part(_results(run, order).part(part)).to_pylist()
    return {row["row_index"]: _answer(row) for row in rows}


def _results(run: RunSpec, order: Order) -> ResultsDir:
    return ResultsDir(RunResults.of(run).asks / order.job_id)


def _read_part(part: Path, share: Share) -> dict[str, Answered]:
    return {
        row["custom_id"]: Answered(_answer(row), row[CACHE_KEY])
        for row in read_part(part).to_pylist()
        if share.first <= row["row_index"] < share.first + share.num_rows
    }


def _answer(row: dict[str, Any]) -> Answer:
    vector = row.get("embedding")
    error = row["error"]
    return Answer(
        text=row["output"],
        error=None if error is None else msgspec.convert(error, RequestError),
        finish_reason=row["finish_reason"],
        vector=None if vector is None else pack(vector),
        tool_calls=tuple(row["tool_calls"] or ()),
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_tokens=row["cached_tokens"],
        attempts=row["attempts"],
    )
