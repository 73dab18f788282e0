import os
import time
from pathlib import Path

from penstock.jobs.ending import cancel
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.model import new_job_id
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.sweep import LEFT_BEHIND_AGE_S, sweep

from .conftest import JobMaker, ShardRunner
from .live import wait_for


def make_old(*paths: Path) -> None:
    long_ago = time.time() - LEFT_BEHIND_AGE_S - 10
    for path in paths:
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def test_what_a_killed_submission_left_is_swept_a_day_later(
    settings: Settings, tmp_path: Path, make_job: JobMaker
) -> None:
    job = make_job()
    elsewhere = tmp_path / "elsewhere"
    for job_id in ("job_dead", "job_uploading"):
        half_made = JobDir(settings.jobs_dir, job_id)
        half_made.create()
        half_made.input.write_bytes(b"PAR1")
        half_made.link_results(elsewhere / job_id)
        ResultsDir(elsewhere / job_id).create()
        make_old(half_made.path, half_made.results)
    make_old(settings.jobs_dir / "job_dead" / "input.parquet")
    make_old(*(settings.jobs_dir / job.job_id).iterdir())
    assert sweep(settings) == 1
    assert {path.name for path in settings.jobs_dir.iterdir()} == {"job_uploading", job.job_id}
    assert [path.name for path in elsewhere.iterdir()] == ["job_uploading"]
    assert ResultsDir.of(job).rows.is_dir()


def test_rows_that_landed_for_nobody_are_swept(settings: Settings, make_job: JobMaker) -> None:
    job = make_job()
    stray, ended, young, half_made = (new_job_id() for _ in range(4))
    for name in (stray, ended, young, half_made, "job_of_somebody"):
        results = ResultsDir(settings.results_dir / name)
        results.create()
        results.part(0).touch()
    ResultsDir(settings.results_dir / ended).manifest.touch()
    ResultsDir(settings.results_dir / young).part(1).touch()
    (settings.jobs_dir / half_made).mkdir()
    found = {path.name for path in settings.results_dir.iterdir()}
    make_old(*settings.results_dir.rglob("*"))
    os.utime(ResultsDir(settings.results_dir / young).part(1))
    assert sweep(settings) == 1
    assert {path.name for path in settings.results_dir.iterdir()} == found - {stray}
    assert job.job_id in found


def test_no_rows_are_swept_while_the_jobs_are_not_to_be_seen(settings: Settings) -> None:
    results = ResultsDir(settings.results_dir / new_job_id())
    results.create()
    make_old(results.path, *results.path.rglob("*"))
    assert sweep(settings) == 0
    assert results.rows.is_dir()
    settings.jobs_dir.mkdir()
    assert sweep(settings) == 1


def test_a_link_that_is_not_the_jobs_own_is_not_followed(
    settings: Settings, tmp_path: Path
) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    half_made = JobDir(settings.jobs_dir, "job_dead")
    half_made.create()
    half_made.link_results(treasure)
    make_old(half_made.path, half_made.results)
    assert sweep(settings) == 1
    assert treasure.is_dir()


def test_files_that_killed_writers_left_are_swept(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, [0])
    job_dir, results = JobDir(settings.jobs_dir, spec.job_id), ResultsDir.of(spec)
    old = [job_dir.path / ".final.json.1.a.tmp", results.path / "._manifest.json.1.b.tmp"]
    young = job_dir.path / ".final.json.2.c.tmp"
    for path in (*old, young):
        path.touch()
    (results.temporary / ".part-000001.parquet.3.d.tmp").touch()
    make_old(*old, results.temporary)
    assert sweep(settings) == 1
    assert not any(path.exists() for path in old)
    assert young.exists()
    assert results.temporary.is_dir()  # the job goes on
    journals = job_dir.path / "unlanded"
    journals.mkdir()
    (journals / "1.2.3.rows").touch()
    make_old(journals)
    assert sweep(settings) == 0
    cancel(settings, table, spec.job_id)
    assert sweep(settings) == 1
    assert not results.temporary.exists()
    assert not journals.exists()
    assert list(results.parts()) == [0]
    assert sweep(settings) == 0


def test_the_keeper_sweeps(settings: Settings) -> None:
    half_made = JobDir(settings.jobs_dir, "job_dead")
    half_made.create()
    make_old(half_made.path)
    keeper = Keeper(settings, owner="sweeper")
    keeper.start()
    try:
        wait_for(lambda: not half_made.path.exists(), "the half-made job to be swept")
    finally:
        keeper.stop()
