"""Hands pieces of work to processes, and judges what it means when one of them ends over a piece.

    too long                       the piece is broken: it would be no faster the next time
    killed, or out of memory       done again, but whoever dies of it three times is not innocent
    not wanted any more            nobody asks

Knows no piece's meaning. Pieces that take a shard and those that take all rows of a run have
processes of their own: some wait for hours behind others, which nobody shall wait for.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..work import Broken, Emit, Gather, Outcome, Work
from .bench import Bench, Cause, Loss

MAX_MEMORY_BYTES = 4 << 30
SHARD_S = 300.0  # far beyond what a shard may cost by the budgets of its rows
GATHER_S = 6 * 3600.0  # all rows of a run
MAX_DEATHS = 3  # of processes over the same piece


class Workshop:
    """So many processes for shards, and one for all rows. They start when they are first needed."""

    def __init__(
        self,
        data_dir: Path,
        num_benches: int = 1,
        *,
        operations: Sequence[str] = (),
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self.num_benches = num_benches
        self._equipment = (data_dir, operations, max_memory_bytes)
        self._shards = ThreadPoolExecutor(num_benches, "workflow")
        self._gathers = ThreadPoolExecutor(1, "workflow-gather")
        self._own = threading.local()  # each thread's bench
        self._benches: list[Bench] = []
        self._deaths = Counter[tuple[str, str]]()
        self._is_closed = False

    def submit(self, work: Work) -> "Future[Outcome]":
        """Have a piece done when it is its turn."""
        threads = self._gathers if isinstance(work, Gather) else self._shards
        return threads.submit(self._do, work)

    def stop(self, run_id: str) -> None:
        """End the pieces of a run that are under way; those that wait are their holder's."""
        for bench in list(self._benches):
            bench.stop(run_id)

    def close(self) -> None:
        """Stop, whatever is under way: it may be done again."""
        self._is_closed = True
        for threads in (self._shards, self._gathers):
            threads.shutdown(wait=False, cancel_futures=True)
        for bench in list(self._benches):
            bench.close()

    def _do(self, work: Work) -> Outcome:
        limit_s = GATHER_S if isinstance(work, Gather) else SHARD_S
        made = self._bench().do(work, limit_s)
        if isinstance(made, Loss):
            return self._judge(work, made)
        self._deaths.pop(_piece(work), None)
        return made

    def _bench(self) -> Bench:
        bench: Bench | None = getattr(self._own, "bench", None)
        if bench is None:
            bench = self._own.bench = Bench(*self._equipment)
            self._benches.append(bench)
            if self._is_closed:  # just now, and this one was not seen
                bench.close()
        return bench

    def _judge(self, work: Work, loss: Loss) -> Broken:
        piece = _piece(work)
        message = f"{piece[1]} {loss.message}"
        if loss.cause is not Cause.DIED:
            return Broken(message, is_lasting=loss.cause is Cause.TIMED_OUT)
        self._deaths[piece] += 1
        num_deaths = self._deaths[piece]
        is_lasting = num_deaths >= MAX_DEATHS
        if is_lasting:
            del self._deaths[piece]
        return Broken(f"{message}, time {num_deaths} of {MAX_DEATHS}", is_lasting)


def _piece(work: Work) -> tuple[str, str]:
    """Name a piece: its run, and what people call the rest."""
    match work:
        case Gather():
            return work.run_id, f"step {work.step_id}"
        case Emit():
            return work.run_id, f"shard {work.shard} of the output"
    return work.run_id, f"shard {work.shard} of step {work.step_id}"
