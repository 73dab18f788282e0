"""The short version of `make chaos`: the faults that matter most, on one stack that outlives them.

Each kills or holds up something real under a job of some thousand rows, and every row is counted
from outside. Times are recorded by the long version, and are no matter of passing here.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .faults import client, disk, engine, redis, steering, worker
from .scene import Fault, play
from .stack import Stack, StackOptions, running_stack

ROWS = 2_000
DOZE = worker.doze_for(3.0)
ROWS_TO_WAKE_TO = 5_000  # so that there is work left when the worker that dozed wakes
FAULTS = (
    engine.kill_at(0.5),
    next(fault for fault in worker.FAULTS if fault.inject is worker.kill),
    DOZE,
    redis.kill_for(2.0),
    redis.cut_power(1.0),
    next(fault for fault in redis.FAULTS if fault.inject is redis.wipe),
    *disk.FAULTS,
    *client.FAULTS,
    next(fault for fault in steering.FAULTS if fault.inject is steering.pause_and_resume),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("chaos")
    with running_stack(directory, StackOptions()) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title.replace(" ", "-"))
def test_no_row_is_lost_doubled_or_wronged(stack: Stack, fault: Fault) -> None:
    reason = fault.why_not()
    if reason is not None:
        pytest.skip(reason)
    record = play(stack, fault, ROWS_TO_WAKE_TO if fault is DOZE else ROWS, seed=1)
    assert record.is_clean, record
    assert record.rows >= ROWS
