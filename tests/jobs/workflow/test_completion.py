"""The last step of a run: its output read again, told of in a manifest, copied to a store."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.fs as fs
import pytest

from penstock.jobs.model import JobState
from penstock.jobs.workflow.run_dir import RunResults

from ..live import Live, live_queue, wait_for
from ..moto_store import CREDENTIALS, s3_server
from .test_runs import FAST, JUDGED, check_judged, ended, submit


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str) -> fs.FileSystem:
    """An S3 server with an empty bucket named `bucket`."""
    files = fs.S3FileSystem(
        endpoint_override=endpoint, allow_bucket_creation=True, allow_bucket_deletion=True
    )
    files.create_dir("bucket")
    return files


@pytest.fixture
def live(tmp_path: Path, endpoint: str) -> Iterator[Live]:
    with live_queue(tmp_path, s3_endpoint=endpoint) as live:
        yield live


def test_the_output_is_told_of_and_copied_to_a_store(live: Live, bucket: fs.FileSystem) -> None:
    run = submit(live, JUDGED, 20, out="s3://bucket/some")
    live.start_worker(FAST)
    done = ended(live, run)
    assert done.state is JobState.COMPLETED
    assert done.out == f"s3://bucket/some/{run.run_id}"
    found = ds.dataset(f"bucket/some/{run.run_id}/rows", filesystem=bucket).to_table()
    assert sorted(found["row_id"].to_pylist(), key=int) == [str(n) for n in range(20) if n % 5 >= 2]
    results = RunResults(live.settings.results_dir, run.run_id).output
    manifest = json.loads(results.manifest.read_bytes())
    (part,) = manifest["parts"]
    data = (results.path / part["path"]).read_bytes()
    assert part["sha256"] == hashlib.sha256(data).hexdigest()
    assert (part["rows"], part["bytes"]) == (12, len(data))
    assert manifest["counts"] == {"input": 20, "output": 12}
    with bucket.open_input_stream(f"bucket/some/{run.run_id}/_manifest.json") as stream:
        assert stream.read() == results.manifest.read_bytes()


def test_a_store_that_is_away_holds_the_run_up_and_says_so(
    live: Live, bucket: fs.FileSystem
) -> None:
    run = submit(live, JUDGED, 10, out="s3://bucket/some")
    bucket.delete_dir("bucket")
    live.start_worker(FAST)

    def is_held_up() -> bool:
        told = live.redis.get(live.keys.run(run.run_id))
        return told is not None and "store_unavailable" in told

    wait_for(is_held_up, "the run to be held up")
    bucket.create_dir("bucket")
    assert ended(live, run).state is JobState.COMPLETED
    check_judged(live, run, 10)
