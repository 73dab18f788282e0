"""What removed jobs had used: many of them become few sums, and nothing counts twice."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from penstock.jobs import removed_usage
from penstock.jobs.job_table import JobTable
from penstock.jobs.removal import remove
from penstock.jobs.removed_usage import RemovedJob, removed_jobs
from penstock.jobs.usage import Usage, used

from .small_jobs import SmallJobs

EVER = 2**50
DAY_MS = 24 * 3600 * 1000


def _used(jobs: SmallJobs, start_ms: int = 0) -> Usage:
    removed = removed_jobs(jobs.settings, "default")
    return used(jobs.table, "default", start_ms, EVER, removed).get("fake", Usage())


@pytest.fixture
def directory(jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(removed_usage, "_MAX_FILES", 2)
    return jobs.settings.data_dir / "removed" / "default"


def _remove_one(jobs: SmallJobs) -> str:
    spec = jobs.complete(failing=[1])
    remove(jobs.settings, jobs.table, jobs.snapshot(spec))
    return spec.job_id


def test_many_files_become_one(jobs: SmallJobs, directory: Path) -> None:
    for number in range(1, 6):
        _remove_one(jobs)
        usage = _used(jobs)
        assert (usage.jobs, usage.rows_succeeded, usage.rows_failed) == (number, 9 * number, number)
        assert (usage.prompt_tokens, usage.completion_tokens) == (50 * number, 27 * number)
    assert len(list(directory.glob("job_*.json"))) == 1
    removed = removed_jobs(jobs.settings, "default")
    sums = [each for each in removed if not each.job_id.startswith("job_")]
    assert sum(each.num_jobs for each in sums) == 4
    assert all(each.created_at_ms % DAY_MS == 0 for each in sums)
    assert _used(jobs, max(each.created_at_ms for each in sums) + 1).jobs == 1


def test_nothing_counts_twice_whenever_folding_dies(
    jobs: SmallJobs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _remove_one(jobs), _remove_one(jobs)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: _fail())
        removed_usage._fold(directory, jobs.settings, jobs.table)
    assert {path.stem for path in directory.glob("job_*.json")} == {first, second}
    assert _used(jobs).jobs == 2
    _remove_one(jobs)
    assert _used(jobs).jobs == 3
    assert not {path.stem for path in directory.glob("job_*.json")} & {first, second}


def test_damaged_sums_are_not_written_anew(jobs: SmallJobs, directory: Path) -> None:
    for _ in range(3):
        _remove_one(jobs)
    sums = directory / "_days.json"
    kept = sums.read_bytes()
    sums.write_bytes(kept[:-5])
    for _ in range(3):
        _remove_one(jobs)
    assert (sums.read_bytes(), _used(jobs).jobs) == (kept[:-5], 4)
    sums.write_bytes(kept)
    assert _used(jobs).jobs == 6


def test_what_a_crash_left_in_the_table_or_on_disk_is_not_folded(
    jobs: SmallJobs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled, on_disk = jobs.complete(), jobs.complete()
    snapshots = jobs.snapshot(tabled), jobs.snapshot(on_disk)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="away"):
        patch.setattr(JobTable, "forget", lambda *_: _fail())
        remove(jobs.settings, jobs.table, snapshots[0])
    removed_usage.note(jobs.settings, jobs.table, snapshots[1])
    jobs.table.forget(snapshots[1])
    for _ in range(3):
        _remove_one(jobs)
    left = {path.stem for path in directory.glob("job_*.json")}
    assert {tabled.job_id, on_disk.job_id} < left
    assert _used(jobs).jobs == 5


def test_who_reads_while_others_fold_counts_once(
    jobs: SmallJobs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        _remove_one(jobs)
    read = removed_usage._read

    def read_while_others_fold(paths: Iterable[Path]) -> list[RemovedJob]:
        found = list(read(paths))
        monkeypatch.setattr(removed_usage, "_read", read)
        for _ in range(2):  # so that the sums do not say any more what was folded first
            removed_usage._fold(directory, jobs.settings, jobs.table)
            _remove_one(jobs)
        return found

    monkeypatch.setattr(removed_usage, "_read", read_while_others_fold)
    assert sum(each.num_jobs for each in removed_jobs(jobs.settings, "default")) == 4


def _fail() -> None:
    raise OSError("away")
