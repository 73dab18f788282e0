"""Results and inputs in an object store: a real S3 server, which moto brings, and real requests."""

import fcntl
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.fs as fs
import pytest

from penstock.jobs import object_store, publishing
from penstock.jobs.inputs import UnreadableInput
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState, TaskSpec
from penstock.jobs.object_store import ObjectStore, StorePlace, StoreUnavailable
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.submission import InvalidJob, PathSource, RowsSource, SubmitRequest, submit

from .moto_store import CREDENTIALS, s3_server
from .small_jobs import SmallJobs

TASK = TaskSpec(model="fake", prompt="{{ row.text }}")
OUT = "s3://bucket/some/prefix"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.FileSystem]:
    """An empty bucket named `bucket`, seen from outside."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "_MAX_ATTEMPTS", 1)  # nothing here gets better by waiting
    files = fs.S3FileSystem(
        endpoint_override=endpoint, allow_bucket_creation=True, allow_bucket_deletion=True
    )
    files.create_dir("bucket")
    yield files
    if files.get_file_info("bucket").type is fs.FileType.Directory:
        files.delete_dir("bucket")


@pytest.fixture
def settings(settings: Settings, endpoint: str, bucket: fs.FileSystem) -> Settings:
    return replace(settings, s3_endpoint=endpoint)


def names(files: fs.FileSystem, below: str) -> list[str]:
    infos = files.get_file_info(fs.FileSelector(below, recursive=True, allow_not_found=True))
    return sorted(
        info.path.removeprefix(below).lstrip("/") for info in infos if info.type is fs.FileType.File
    )


def test_a_complete_job_is_copied_and_reads_like_any_dataset(
    jobs: SmallJobs, bucket: fs.FileSystem
) -> None:
    spec = jobs.make(out=OUT + "/")
    where = f"bucket/some/prefix/{spec.job_id}"
    assert (spec.out_url, spec.out) == (OUT, str(jobs.settings.results_dir))
    assert jobs.snapshot(spec).out == OUT
    jobs.run(spec)
    assert names(bucket, "bucket") == []  # the disk decides first
    assert jobs.finalize(spec) is JobState.COMPLETED
    parts = [f"rows/part-{index:06}.parquet" for index in range(3)]
    assert names(bucket, where) == ["_SUCCESS", "_manifest.json", *parts]
    found = ds.dataset(f"{where}/rows", filesystem=bucket).to_table()
    assert found["row_index"].to_pylist() == list(range(10))
    results = ResultsDir.of(spec)
    for name in ("_manifest.json", *parts):
        with bucket.open_input_stream(f"{where}/{name}") as stream:
            assert stream.read() == (results.path / name).read_bytes()


def test_every_result_goes_there_if_the_settings_say_so(
    settings: Settings, table: JobTable, tmp_path: Path
) -> None:
    rows = RowsSource([{"text": "a"}])
    everywhere = replace(settings, results=OUT)
    assert submit(everywhere, table, rows, SubmitRequest(TASK)).spec.out_url == OUT
    own = SubmitRequest(TASK, out=str(tmp_path / "own"))
    spec = submit(everywhere, table, rows, own).spec
    assert (spec.out_url, spec.out) == (None, str(tmp_path / "own"))
    elsewhere = replace(settings, results=str(tmp_path / "default"))
    assert submit(elsewhere, table, rows, SubmitRequest(TASK)).spec.out == str(tmp_path / "default")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://nowhere/x", r"cannot write to s3://nowhere/x: there is no bucket 'nowhere'"),
        ("s3://", "named as s3://bucket/prefix"),
        ("gs://bucket/x", "directory or to s3://bucket/prefix, not gs"),
    ],
)
def test_a_place_that_cannot_be_is_refused_at_once(jobs: SmallJobs, out: str, message: str) -> None:
    with pytest.raises(InvalidJob, match=message) as caught:
        submit(jobs.settings, jobs.table, RowsSource([{"text": "a"}]), SubmitRequest(TASK, out=out))
    assert caught.value.param == "output"
    assert jobs.table.list() == []
    assert list(JobDir.all(jobs.settings.jobs_dir)) == []


def test_a_store_that_does_not_answer_is_named(settings: Settings, table: JobTable) -> None:
    away = replace(settings, s3_endpoint="http://127.0.0.1:9")
    with pytest.raises(InvalidJob, match=r"http://127\.0\.0\.1:9 does not answer"):
        submit(away, table, RowsSource([{"text": "a"}]), SubmitRequest(TASK, out=OUT))


def test_denied_access_names_the_variables(settings: Settings) -> None:
    store = ObjectStore(StorePlace.parse(OUT), settings.s3_endpoint)
    denied = OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied")
    with (
        pytest.raises(StoreUnavailable, match=r"access is denied; check AWS_ACCESS_KEY_ID"),
        store._errors("cannot write to"),
    ):
        raise denied


def test_a_bucket_that_is_gone_holds_the_job_up_until_it_is_back(
    jobs: SmallJobs, bucket: fs.FileSystem
) -> None:
    spec = jobs.make(out=OUT)
    jobs.run(spec)
    bucket.delete_dir("bucket")
    with pytest.raises(StoreUnavailable, match="there is no bucket"):
        jobs.finalize(spec)
    snapshot = jobs.snapshot(spec)
    assert snapshot.state is JobState.LANDING
    reason = f"held_up: store_unavailable: cannot write to {OUT}/{spec.job_id}: there is no bucket"
    assert (snapshot.status_reason or "").startswith(reason)
    bucket.create_dir("bucket")
    assert jobs.finalize(spec) is JobState.COMPLETED
    assert jobs.snapshot(spec).error is None
    assert "_SUCCESS" in names(bucket, f"bucket/some/prefix/{spec.job_id}")


def test_a_copy_that_breaks_off_goes_on_where_it_was(
    jobs: SmallJobs, bucket: fs.FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it breaks off: no `_SUCCESS` before the last part, no part twice."""
    spec = jobs.make(out=OUT)
    jobs.run(spec)
    where = f"bucket/some/prefix/{spec.job_id}"
    put, gone_up = ObjectStore.put, []
    limit: int | None = None

    def breaking_put(store: ObjectStore, source: Path, name: str) -> None:
        if len(gone_up) == limit:
            raise StoreUnavailable("it broke off")
        put(store, source, name)
        gone_up.append(name)

    monkeypatch.setattr(ObjectStore, "put", breaking_put)
    monkeypatch.setattr(publishing, "_MAX_UPLOADS", 1)
    for number in range(5):
        limit = number
        with pytest.raises(StoreUnavailable, match="broke off"):
            jobs.finalize(spec)
        assert "_SUCCESS" not in names(bucket, where)
        gone_up = gone_up[:3]  # the manifest goes up again, it is small
    limit = None
    assert jobs.finalize(spec) is JobState.COMPLETED
    assert gone_up == [
        *(f"rows/part-{index:06}.parquet" for index in range(3)),
        "_manifest.json",
        "_SUCCESS",
    ]


def test_what_somebody_removed_or_cut_meanwhile_goes_up_again(
    jobs: SmallJobs, bucket: fs.FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.make(out=OUT)
    jobs.run(spec)
    where = f"bucket/some/prefix/{spec.job_id}"
    with monkeypatch.context() as patch:
        patch.setattr("penstock.jobs.manifest.end", lambda *_: 1 / 0)  # killed just before the end
        with pytest.raises(ZeroDivisionError):
            jobs.finalize(spec)
    bucket.delete_file(f"{where}/rows/part-000001.parquet")
    with bucket.open_output_stream(f"{where}/rows/part-000002.parquet") as stream:
        stream.write(b"cut")
    with ResultsDir.of(spec).published.open("ab") as file:
        file.write(b'{"url": "torn')
    assert jobs.finalize(spec) is JobState.COMPLETED
    found = ds.dataset(f"{where}/rows", filesystem=bucket).to_table()
    assert found["row_index"].to_pylist() == list(range(10))


def test_only_one_copies_at_a_time(jobs: SmallJobs) -> None:
    """A worker is at it for an hour, say, and the keeper thinks that nobody is."""
    spec = jobs.make(out=OUT)
    jobs.run(spec)
    with ResultsDir.of(spec).published.open("ab") as notes:
        fcntl.flock(notes, fcntl.LOCK_EX)
        assert jobs.finalize(spec) is None
        snapshot = jobs.snapshot(spec)
        assert (snapshot.state, snapshot.error) == (JobState.LANDING, None)
    assert jobs.finalize(spec) is JobState.COMPLETED


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_inputs_are_read_from_the_store(
    jobs: SmallJobs, bucket: fs.FileSystem, suffix: str
) -> None:
    rows: list[dict[str, Any]] = [{"text": f"row {number}"} for number in range(100)]
    with bucket.open_output_stream(f"bucket/in/rows.{suffix}") as stream:
        stream.write(_written(rows, suffix))
    source = PathSource(f"s3://bucket/in/rows.{suffix}")
    spec = submit(jobs.settings, jobs.table, source, SubmitRequest(TASK)).spec
    with jobs.directory(spec).open_input() as sealed:
        found = [row.row for shard in range(spec.num_shards) for row in sealed.shard(shard)]
    assert found == rows


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/nothing.jsonl", "cannot read s3://bucket/nothing.jsonl"),
        ("s3://nowhere/rows.jsonl", "cannot read s3://nowhere/rows.jsonl"),
    ],
)
def test_an_input_that_is_not_there_is_named(jobs: SmallJobs, url: str, message: str) -> None:
    with pytest.raises(UnreadableInput, match=message):
        submit(jobs.settings, jobs.table, PathSource(url), SubmitRequest(TASK))
    assert list(JobDir.all(jobs.settings.jobs_dir)) == []


def test_the_usual_variables_name_the_endpoint(
    settings: Settings, bucket: fs.FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", settings.s3_endpoint or "")
    ObjectStore(StorePlace.parse(OUT)).check()
    assert names(bucket, "bucket") == []


def _written(rows: list[dict[str, Any]], suffix: str) -> bytes:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if suffix == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows)
    write = pyarrow.csv.write_csv if suffix == "csv" else pyarrow.parquet.write_table
    write(table, sink)
    return sink.getvalue().to_pybytes()


def test_rows_that_were_retried_are_copied_over_those_that_failed(
    jobs: SmallJobs, bucket: fs.FileSystem
) -> None:
    spec = jobs.complete(failing=[5], out=OUT)
    jobs.rerun(spec)
    rows = ds.dataset(f"bucket/some/prefix/{spec.job_id}/rows", filesystem=bucket).to_table()
    assert sorted(rows["row_index"].to_pylist()) == list(range(10))
    assert set(rows["status"].to_pylist()) == {"succeeded"}
    assert {name.partition("/")[0] for name in names(bucket, "bucket/some/prefix")} == {spec.job_id}
    assert f"{spec.job_id}/_SUCCESS" in names(bucket, "bucket/some/prefix")
