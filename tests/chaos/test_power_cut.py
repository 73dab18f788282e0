"""A power cut at the moment of an answer: whatever was promised by then is on the disk."""

from pathlib import Path

import pytest

from penstock.jobs import durable
from penstock.jobs.durable import create_file, replace_file
from penstock.jobs.ending import cancel
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobSpec, JobState, RowStatus, ShardRef, TaskSpec
from penstock.jobs.redis_client import connect
from penstock.jobs.settings import Settings
from penstock.jobs.steering import pause
from penstock.jobs.submission import RowsSource, SubmitRequest, submit

from .power_cut import PowerCut


@pytest.fixture
def table(settings: Settings, keys: Keys) -> JobTable:
    return JobTable(connect(settings), keys)


def make_job(settings: Settings, table: JobTable) -> JobSpec:
    request = SubmitRequest(TaskSpec(model="fake", prompt="{{ row.text }}"), shard_rows=2)
    rows = [{"text": f"text {index}"} for index in range(3)]
    return submit(settings, table, RowsSource(rows), request).spec


def land_shard(spec: JobSpec, index: int) -> None:
    indexes = range(index * spec.shard_rows, min((index + 1) * spec.shard_rows, spec.num_rows))
    rows = [LandedRow(row, None, RowStatus.SUCCEEDED, output="x") for row in indexes]
    land(spec, index, 1, rows)


def promised(cut: PowerCut) -> list[str]:
    """What would be lost, but for what is made when needed and says nothing by being there.

    That is the place of half-written files, and a job's lock: an empty file, held by processes.
    """
    unpromised = ("/_tmp: its name", "/.lock: its name", "/.lock: its bytes")
    return [lost for lost in cut.would_lose() if not lost.endswith(unpromised)]


def test_it_sees_what_was_not_synced(tmp_path: Path) -> None:
    cut = PowerCut(tmp_path)
    with cut.watched():
        (tmp_path / "plain").write_bytes(b"never synced")
        replace_file(tmp_path / "kept", b"whole")
        create_file(tmp_path / "changed", b"whole")
        (tmp_path / "changed").write_bytes(b"half")
        (tmp_path / "late").touch()
    assert cut.would_lose() == [
        "changed: its bytes", "late: its bytes", "late: its name", "plain: its bytes",
    ]  # fmt: skip


def test_an_accepted_job_survives(settings: Settings, table: JobTable) -> None:
    settings.data_dir.mkdir(parents=True)
    cut = PowerCut(settings.data_dir)
    with cut.watched():
        make_job(settings, table)
    assert promised(cut) == []


def test_a_landed_part_survives(settings: Settings, table: JobTable) -> None:
    settings.data_dir.mkdir(parents=True)
    cut = PowerCut(settings.data_dir)
    with cut.watched():
        spec = make_job(settings, table)
        land_shard(spec, 0)
    assert promised(cut) == []


def test_the_end_of_a_job_survives(settings: Settings, table: JobTable) -> None:
    settings.data_dir.mkdir(parents=True)
    cut = PowerCut(settings.data_dir)
    with cut.watched():
        cancel(settings, table, make_job(settings, table).job_id)
        spec = make_job(settings, table)
        for index in table.issue(spec.job_id, 10):
            table.claim(ShardRef(spec.job_id, index), "w1", 60_000)
            land_shard(spec, index)
        assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    assert promised(cut) == []


def test_a_pause_that_is_found_survives(
    settings: Settings, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it died before its name was durable; whoever asks again is told of it."""
    settings.data_dir.mkdir(parents=True)
    cut = PowerCut(settings.data_dir)
    with cut.watched():
        job_id = make_job(settings, table).job_id
        with monkeypatch.context() as patch:
            patch.setattr(durable, "fsync_directory", _die)
            with pytest.raises(KeyboardInterrupt):
                pause(settings, table, job_id)
        name = f"jobs/{job_id}/control.json: its name"
        assert name in promised(cut)
        pause(settings, table, job_id)
    assert name not in promised(cut)


def _die(path: Path) -> None:
    raise KeyboardInterrupt
