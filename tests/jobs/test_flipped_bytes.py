"""One byte of a file rots, at many places in turn: it is always noticed, never taken for true."""

import json
import queue
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.jobs.control import Control, read_control, write_control
from penstock.jobs.errors import CorruptJob
from penstock.jobs.fake_engine import FakeModel, FakeTokenizer
from penstock.jobs.frames import RunShard, ShardFailed
from penstock.jobs.job_dir import Final, JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import CorruptPart, land, part_counts
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobState
from penstock.jobs.part_file import read_part
from penstock.jobs.prompt_encoder import PromptEncoder
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.seal import BLANK_SEAL, ChecksumMismatch, check_seal, sealed
from penstock.jobs.sealed_input import CorruptInput, CorruptShard, InputSealer, SealedInput
from penstock.jobs.sealed_json import check_sealed
from penstock.jobs.settings import Settings
from penstock.jobs.shard_reader import ShardReader
from penstock.jobs.shard_run import ShardRun
from tests.waiting import PATIENCE_S

from .conftest import JobMaker, ShardRunner, SpecMaker, flipped
from .test_landing import rows_of

NUM_FLIPS = 200


def flips(data: bytes) -> Iterator[bytes]:
    """The file with one bit of one byte flipped, at random places and at both ends."""
    pick = random.Random(7)
    ends = [*range(16), *range(len(data) - 16, len(data))]
    for place in [*pick.sample(range(len(data)), min(NUM_FLIPS, len(data))), *ends]:
        yield flipped(data, place, 1 << pick.randrange(8))


def test_no_flipped_byte_of_a_part_goes_unnoticed(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=4)
    land(spec, 0, 1, rows_of(spec, 0, output="the same text " * 20))
    part = ResultsDir.of(spec).part(0)
    data = part.read_bytes()
    assert check_seal(part, data)
    for damaged in flips(data):
        part.write_bytes(damaged)
        for read in (part_counts, read_part):
            with pytest.raises(CorruptPart, match=r"part-000000\.parquet"):
                read(part)


def test_parquets_own_checksums_would_not_have_noticed_all_of_them(make_spec: SpecMaker) -> None:
    """Why there is a seal: the footer has no checksum, and other readers believe it."""
    spec = make_spec(num_rows=4)
    land(spec, 0, 1, rows_of(spec, 0))
    data = ResultsDir.of(spec).part(0).read_bytes()
    want = pq.read_table(pa.BufferReader(data))
    num_believed = 0
    for damaged in flips(data):
        try:
            got = pq.read_table(pa.BufferReader(damaged), page_checksum_verification=True)
            num_believed += not got.equals(want)
        except (OSError, ValueError, pa.ArrowException):
            continue
    assert num_believed > 0


def test_a_flipped_byte_of_the_input_costs_no_other_shard(tmp_path: Path) -> None:
    path = tmp_path / "input.parquet"
    sealer = InputSealer(path, shard_rows=8)
    rows = [row for row in range(40) if row % 11 != 3]  # the others were rejected
    for row in rows:
        sealer.add(row, f"id{row}" if row % 3 else None, f'{{"text":"row {row}"}}')
    sealer.close()
    with SealedInput(path) as whole:
        want = [whole.shard(shard) for shard in range(whole.num_shards)]
    num_unopened = num_shards_lost = 0
    for damaged in flips(path.read_bytes()):
        path.write_bytes(damaged)
        try:
            file = SealedInput(path)
        except CorruptInput:
            num_unopened += 1
            continue
        lost = []
        for shard, expected in enumerate(want):
            try:
                assert file.shard(shard) == expected
            except CorruptShard as error:
                assert error.row_indexes == [row.row_index for row in expected]
                lost.append(shard)
        file.close()
        assert len(lost) <= 1
        num_shards_lost += len(lost)
    assert num_unopened > 0
    assert num_shards_lost > 0


def test_no_flipped_byte_of_the_inputs_footer_is_let_in(tmp_path: Path) -> None:
    """What it tells of the shards is what their bytes are held against."""
    path = write_input(tmp_path / "input.parquet", "a")
    data = path.read_bytes()
    footer_bytes = int.from_bytes(data[-8:-4], "little") + 8
    pick = random.Random(7)
    for place in pick.sample(range(len(data) - footer_bytes, len(data)), NUM_FLIPS):
        path.write_bytes(flipped(data, place, 1 << pick.randrange(8)))
        with pytest.raises(CorruptInput, match=r"input\.parquet"):
            SealedInput(path)


def test_bytes_of_another_input_are_not_taken_for_this_one(tmp_path: Path) -> None:
    """As after a write that went astray: every page has its checksum, and is the wrong one."""
    ours = write_input(tmp_path / "a.parquet", "a")
    theirs = write_input(tmp_path / "b.parquet", "b")
    column = pq.read_metadata(ours).row_group(0).column(2)
    begin, end = column.data_page_offset, column.data_page_offset + column.total_compressed_size
    data = ours.read_bytes()
    ours.write_bytes(data[:begin] + theirs.read_bytes()[begin:end] + data[end:])
    rows = pq.ParquetFile(ours, page_checksum_verification=True).read_row_group(0)
    assert set(rows["row"].to_pylist()) == {'{"text":"bbbb"}'}  # Parquet sees nothing
    with SealedInput(ours) as sealed:
        with pytest.raises(CorruptShard, match="checksum_mismatch"):
            sealed.shard(0)
        assert [row.row["text"] for row in sealed.shard(1)] == ["aaaa"] * 8


def write_input(path: Path, letter: str) -> Path:
    sealer = InputSealer(path, shard_rows=8)
    for row in range(16):
        sealer.add(row, None, f'{{"text":"{letter * 4}"}}')
    sealer.close()
    return path


def test_no_flipped_byte_of_a_jobs_json_goes_unnoticed(
    settings: Settings, make_job: JobMaker
) -> None:
    spec = make_job()
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    data = job_dir.spec.read_bytes()
    for damaged in flips(data):
        job_dir.spec.write_bytes(damaged)
        with pytest.raises(CorruptJob, match=r"job\.json"):
            job_dir.read_spec()
    write_control(job_dir, Control("name", priority=3, pause_reason="user"))
    control = job_dir.path / "control.json"
    for damaged in flips(control.read_bytes()):
        control.write_bytes(damaged)
        with pytest.raises(CorruptJob, match=r"control\.json"):
            read_control(job_dir, spec)
    job_dir.write_final(Final(JobState.CANCELLED, at_ms=5, error="why"))
    for damaged in flips(job_dir.final.read_bytes()):
        job_dir.final.write_bytes(damaged)
        with pytest.raises(CorruptJob, match=r"final\.json"):
            job_dir.read_final()


def test_no_flipped_byte_of_the_manifest_goes_unnoticed(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec)
    finalize(settings, table, spec.job_id)
    path = ResultsDir.of(spec).manifest
    data = path.read_bytes()
    check_sealed(path, data)
    for damaged in flips(data):
        with pytest.raises((ChecksumMismatch, ValueError)):  # or it is not even JSON
            check_sealed(path, damaged)


def test_files_of_older_versions_are_believed(settings: Settings, make_job: JobMaker) -> None:
    spec = make_job()
    path = JobDir(settings.jobs_dir, spec.job_id).spec
    older = json.loads(path.read_bytes())
    del older["seal"]
    path.write_text(json.dumps(older))
    assert JobDir(settings.jobs_dir, spec.job_id).read_spec() == spec


def test_what_looks_like_a_seal_in_the_text_is_not_taken_for_one(tmp_path: Path) -> None:
    text = f"a prompt about {BLANK_SEAL} and {BLANK_SEAL.replace('0', '7')} ".encode()
    data = sealed(text + BLANK_SEAL.encode())
    assert data.startswith(text)
    assert check_seal(tmp_path, data)
    with pytest.raises(ChecksumMismatch):
        check_seal(tmp_path, flipped(data, 3))


def test_rows_whose_input_has_rotted_fail_by_name(settings: Settings, make_job: JobMaker) -> None:
    """Their shard lands all the same, so that the job ends, and says which rows it has lost."""
    spec = make_job(num_rows=10, shard_rows=4)
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    data = job_dir.input.read_bytes()
    place = data.index(b"PAR1") + 40  # within the first shard
    job_dir.input.write_bytes(flipped(data, place))
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    encoder = PromptEncoder(FakeTokenizer(FakeModel()))
    reader = ShardReader(settings.jobs_dir, "w1", encoder, told.put, told.put)
    reader.start()
    reader.submit(RunShard(spec.job_id, 0, attempt=1))
    run = told.get(timeout=PATIENCE_S)
    assert isinstance(run, ShardRun), run
    assert run.is_done
    rows = run.landed_rows()
    assert [row.row_index for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert row.error is not None
        assert row.error.code == "checksum_mismatch"
        assert "input.parquet" in row.error.message
    assert land(spec, 0, 1, rows).errors == {"checksum_mismatch": 4}
    reader.submit(RunShard(spec.job_id, 1, attempt=1))
    assert not isinstance(told.get(timeout=PATIENCE_S), ShardFailed)
