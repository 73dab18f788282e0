"""The contender's end of the pipe: a line of work in, a line of tokens and times out.

Knows clocks and pipes. Refuses to know what engine does the work. Runs in each peer's own
environment, so it needs nothing but Python itself.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from work import Work

Run = Callable[[Work], list[list[int]]]


@dataclass(frozen=True)
class Spent:
    """What a stretch of time cost.

    Attributes:
        wall_s: seconds that passed.
        own_s: processor seconds of this process, all its threads together.
        foreign_share: the part of the machine's processors, from 0 to 1, that others took.
    """

    wall_s: float
    own_s: float
    foreign_share: float


class Meter:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._busy_s = _machine_busy_s()
        self._own_s = time.process_time()
        self._wall_s = time.perf_counter()

    def read(self) -> Spent:
        """Return what has been spent so far."""
        wall_s = time.perf_counter() - self._wall_s
        own_s = time.process_time() - self._own_s
        busy_s = _machine_busy_s() - self._busy_s
        cores = os.cpu_count() or 1
        return Spent(wall_s, own_s, max(0.0, busy_s - own_s) / (wall_s * cores))


def serve(load: Callable[[], Run]) -> None:
    """Load an engine, say so, then work through each line of stdin; errors end the process.

    The first line out is {"loaded_s": …}; each line of work is answered with {"tokens", "wall_s",
    "own_s", "foreign_share"}. What libraries print goes to stderr.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    loading = Meter()
    run = load()
    print(json.dumps({"loaded_s": loading.read().wall_s}), file=answers, flush=True)
    for line in sys.stdin:
        work = Work(**json.loads(line))
        meter = Meter()
        token_ids = run(work)
        spent = meter.read()
        answer = {
            "tokens": [[int(i) for i in row] for row in token_ids],
            "wall_s": spent.wall_s,
            "own_s": spent.own_s,
            "foreign_share": spent.foreign_share,
        }
        print(json.dumps(answer), file=answers, flush=True)


def _machine_busy_s() -> float:
    """Processor seconds that anybody has used since the machine started, stolen ones included."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
            int, stat.readline().split()[1:]
        )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
