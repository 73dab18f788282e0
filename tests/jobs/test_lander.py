"""The lander on its own: jobs, parts and traces are real, and so is its thread."""

import queue
import socket
import subprocess
import sys
from os import getpid
from pathlib import Path

import msgspec

from penstock.jobs.errors import UnknownJob
from penstock.jobs.frames import (
    VERSION,
    Configuration,
    RunShard,
    ShardFailed,
    ShardLanded,
    Trouble,
)
from penstock.jobs.job_dir import JobDir
from penstock.jobs.journal import Journal
from penstock.jobs.lander import Lander
from penstock.jobs.model import JobSpec, ShardRef
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.shard_run import ShardRun
from penstock.jobs.suspects import Suspects
from tests.waiting import PATIENCE_S

from .conftest import JobMaker
from .small_jobs import answered

_LANDER_ENDS = """
import sys
from penstock.jobs import engine_child, lander

lander.Lander._run = lambda self: 1 / 0
engine_child.main(sys.argv[1:])
"""


def run_of(settings: Settings, spec: JobSpec, index: int) -> ShardRun:
    """A shard whose rows have all ended."""
    ref = ShardRef(spec.job_id, index)
    with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
        finished = [[answered(row)] for row in sealed.shard(index)]
    return ShardRun(
        RunShard(spec.job_id, index, attempt=1),
        spec,
        [],
        "w1",
        suspects=Suspects(settings.jobs_dir, ref),
        journal=Journal(settings.jobs_dir, ref, 1),
        finished=finished,
    )


def test_a_trace_that_cannot_be_removed_holds_nobody_up(
    settings: Settings, make_job: JobMaker
) -> None:
    spec = make_job()
    told: queue.SimpleQueue[ShardLanded | ShardFailed] = queue.SimpleQueue()
    lander = Lander(told.put, settings.jobs_dir)
    lander.start()
    stuck = settings.jobs_dir / spec.job_id / "unlanded" / "0.1.7.rows"
    stuck.mkdir(parents=True)  # which no `unlink` removes
    for index in range(2):
        lander.submit(run_of(settings, spec, index))
        assert isinstance(told.get(timeout=PATIENCE_S), ShardLanded)
    assert stuck.exists()


def test_a_shard_of_a_removed_job_does_not_land(settings: Settings, make_job: JobMaker) -> None:
    spec = make_job()
    told: queue.SimpleQueue[ShardLanded | ShardFailed] = queue.SimpleQueue()
    lander = Lander(told.put, settings.jobs_dir)
    lander.start()
    run = run_of(settings, spec, 0)
    JobDir(settings.jobs_dir, spec.job_id).remove()
    ResultsDir.of(spec).remove()
    lander.submit(run)
    outcome = told.get(timeout=PATIENCE_S)
    assert isinstance(outcome, ShardFailed)
    assert (outcome.message, outcome.trouble) == (str(UnknownJob(spec.job_id)), Trouble.LASTING)
    assert not ResultsDir.of(spec).path.exists()
    assert not (settings.jobs_dir / spec.job_id).exists()


def test_an_engine_process_ends_with_any_of_its_threads(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    report = tmp_path / "report.txt"
    configuration = Configuration(
        settings=Settings(data=str(tmp_path)),
        model="fake:",
        worker="w1",
        report=str(report),
        version=VERSION,
    )
    with ours, theirs:
        ended = subprocess.run(
            [sys.executable, "-c", _LANDER_ENDS, str(theirs.fileno()), str(getpid())],
            input=msgspec.json.encode(configuration),
            pass_fds=[theirs.fileno()],
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert b"the engine process failed in lander" in ended.stderr
    assert "ZeroDivisionError" in report.read_text()
