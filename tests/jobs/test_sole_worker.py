"""Of several that would look after a directory one does, and the next when that one is gone."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.jobs.file_lock import file_lock
from penstock.jobs.sole_worker import SoleWorker

from .live import wait_for

_WORK = """
import pathlib, sys, time
from penstock.jobs.sole_worker import SoleWorker
directory = pathlib.Path(sys.argv[1])
SoleWorker(directory / "lock", (directory / "works").touch, tick_s=0.01).start()
time.sleep(600)
"""


@contextmanager
def working(lock: Path, tick: Callable[[], object]) -> Iterator[SoleWorker]:
    worker = SoleWorker(lock, tick, tick_s=0.005, fault_pause_s=0.005)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def test_one_works_and_the_next_when_it_has_stopped(tmp_path: Path) -> None:
    lock = tmp_path / "not there yet" / "lock"
    firsts: list[None] = []
    seconds: list[None] = []
    with working(lock, lambda: firsts.append(None)) as first:
        wait_for(lambda: firsts, "the first one's work")
        with working(lock, lambda: seconds.append(None)):
            done = len(firsts)
            wait_for(lambda: len(firsts) > done + 20, "more of its work")
            assert seconds == []
            first.stop()
            done = len(firsts)
            wait_for(lambda: len(seconds) > 3, "the second one's work")
            assert len(firsts) == done


def test_a_killed_one_is_followed(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", _WORK, str(tmp_path)])
    ticks: list[None] = []
    try:
        wait_for((tmp_path / "works").exists, "the other process")
        with working(tmp_path / "lock", lambda: ticks.append(None)):
            assert ticks == []
            other.kill()
            wait_for(lambda: ticks, "the one that stood by")
    finally:
        other.kill()
        other.wait()


def test_a_fault_is_logged_and_the_work_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [OSError("the disk is away"), ValueError("nobody foresaw it")]
    ticks: list[None] = []

    def tick() -> None:
        if faults:
            raise faults.pop(0)
        ticks.append(None)

    with working(tmp_path / "lock", tick):
        wait_for(lambda: ticks, "work after the faults")
    assert "the disk is away" in caplog.text
    assert "nobody foresaw it" in caplog.text


def test_one_that_was_never_started_stops_too(tmp_path: Path) -> None:
    worker = SoleWorker(tmp_path / "lock", lambda: None)
    worker.stop()
    assert worker.is_stopping


def test_a_lock_has_one_holder_and_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"as it was, ")
    for wait_s in (0.0, 0.03):
        with file_lock(path) as held, file_lock(path, wait_s=wait_s) as other:
            assert held is not None
            assert other is None
    with file_lock(path) as held:
        assert held is not None
        os.write(held, b"and more")
    assert path.read_bytes() == b"as it was, and more"
