import json
from pathlib import Path

import pytest

from penstock.jobs import sealed_input
from penstock.jobs.durable import create_file, replace_file
from penstock.jobs.errors import CorruptJob, NewerJob, UnknownJob
from penstock.jobs.job_dir import Final, JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import SPEC_VERSION, JobState
from penstock.jobs.sealed_input import (
    LARGE_JOB_ROWS,
    CorruptInput,
    CorruptShard,
    InputSealer,
    SealedInput,
    SealedRow,
)
from penstock.jobs.settings import Settings

from .conftest import JobMaker, SpecMaker, flipped


def test_a_job_reads_back_as_it_was_sealed(
    settings: Settings, make_job: JobMaker, table: JobTable
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    assert job_dir.read_spec() == spec
    assert list(job_dir.read_bad_lines()) == []
    assert job_dir.read_final() is None
    with job_dir.open_input() as sealed:
        assert sealed.num_shards == spec.num_shards == 3
        assert sealed.shard(2) == [
            SealedRow(8, "r8", {"id": "r8", "text": "text 8"}),
            SealedRow(9, "r9", {"id": "r9", "text": "text 9"}),
        ]
        with pytest.raises(IndexError, match="shards 0 to 2, not 3"):
            sealed.shard(3)
    assert [each.job_id for each in JobDir.all(settings.jobs_dir)] == [spec.job_id]


@pytest.mark.parametrize("job_id", ["..", "../x", "a/b", "", ".hidden", "x" * 81, "a\0b", "a.b"])
def test_an_id_never_leads_out_of_the_directory(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(UnknownJob):
        JobDir(tmp_path, job_id)


def test_a_directory_without_job_json_is_not_a_job(tmp_path: Path) -> None:
    assert list(JobDir.all(tmp_path / "nowhere")) == []
    (tmp_path / "job_half").mkdir()
    (tmp_path / "not a job!").mkdir()
    assert list(JobDir.all(tmp_path)) == []
    with pytest.raises(UnknownJob, match="job_half"):
        JobDir(tmp_path, "job_half").read_spec()


def test_a_job_json_that_cannot_be_read_is_named(tmp_path: Path, make_job: JobMaker) -> None:
    spec = make_job()
    job_dir = JobDir(tmp_path / "data" / "jobs", spec.job_id)
    content = json.loads(job_dir.spec.read_bytes())
    assert content["version"] == 1, "older workers can run it"
    assert len(content.pop("seal")) > 64  # without one, nothing says that a byte has changed
    job_dir.spec.write_text(json.dumps({**content, "version": 99, "task": "of another kind"}))
    with pytest.raises(NewerJob, match=f"version 99, this Penstock reads {SPEC_VERSION}: upgrade"):
        job_dir.read_spec()
    job_dir.spec.write_text(json.dumps({**content, "from_the_future": 1}))
    assert job_dir.read_spec() == spec
    job_dir.spec.write_text("{")
    with pytest.raises(CorruptJob, match=r"cannot read .*job\.json"):
        job_dir.read_spec()
    job_dir.final.write_text("{")
    with pytest.raises(CorruptJob, match=r"final\.json"):
        job_dir.read_final()


def test_the_first_end_stands(settings: Settings, make_job: JobMaker) -> None:
    job_dir = JobDir(settings.jobs_dir, make_job().job_id)
    cancelled = Final(JobState.CANCELLED, at_ms=5, started_at_ms=3)
    assert job_dir.write_final(cancelled) == cancelled
    assert job_dir.write_final(Final(JobState.COMPLETED, at_ms=6)) == cancelled
    assert job_dir.read_final() == cancelled


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_file(path, b"first")
    assert not create_file(path, b"second")
    assert path.read_bytes() == b"first"
    replace_file(path, b"third")
    assert path.read_bytes() == b"third"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_small_inputs_have_small_shards_and_large_ones_are_regrouped(tmp_path: Path) -> None:
    for num_rows, shard_rows in ((LARGE_JOB_ROWS - 1, 64), (LARGE_JOB_ROWS + 300, 256)):
        path = tmp_path / f"{num_rows}.parquet"
        sealer = InputSealer(path)
        for index in range(num_rows):
            sealer.add(index, None, '{"n":1}')
        sealer.close()
        assert sealer.shard_rows == shard_rows
        with SealedInput(path) as sealed:
            assert sealed.num_shards == sealer.num_shards == -(-num_rows // shard_rows)
            for shard in (0, sealed.num_shards // 2, sealed.num_shards - 2):
                first = shard * shard_rows
                indexes = [row.row_index for row in sealed.shard(shard)]
                assert indexes == list(range(first, first + shard_rows))
            last = [row.row_index for row in sealed.shard(sealed.num_shards - 1)]
            assert last == list(range(num_rows - len(last), num_rows))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_huge_input_is_regrouped_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_input, "_REGROUPINGS", ((1_000, 100), (3_000, 500)))
    path = tmp_path / "input.parquet"
    sealer = InputSealer(path)
    for index in range(3_210):
        sealer.add(index, None, '{"n":1}')
    sealer.close()
    assert (sealer.shard_rows, sealer.num_shards) == (500, 7)
    with SealedInput(path) as sealed:
        rows = [row.row_index for shard in range(7) for row in sealed.shard(shard)]
    assert rows == list(range(3_210))
    assert [each.name for each in tmp_path.iterdir()] == ["input.parquet"]


def test_bit_rot_in_the_input_is_noticed(tmp_path: Path, make_spec: SpecMaker) -> None:
    path = tmp_path / "input.parquet"
    sealer = InputSealer(path, shard_rows=100)
    for index in range(100):
        sealer.add(index, f"id{index}", f'{{"text":"{index * 7919}"}}')
    sealer.close()
    data = path.read_bytes()
    path.write_bytes(flipped(data, len(data) // 4))
    with SealedInput(path) as sealed, pytest.raises(CorruptShard, match="shard 0") as caught:
        sealed.shard(0)
    assert caught.value.row_indexes == list(range(100))
    path.write_bytes(data[:50])
    with pytest.raises(CorruptInput, match="cannot read the sealed input"):
        SealedInput(path)
