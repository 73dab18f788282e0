"""The last step of a run: its output read again, told of in a manifest, copied to a store."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.fs as fs
import pytest

from penstock.jobs.durable import StorageFull
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.object_store import ObjectStore, StoreUnavailable
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.runs import completion
from penstock.jobs.workflow.runs.run_results import RunResults
from penstock.jobs.workflow.runs.runs import cancel_run
from penstock.jobs.workflow.workshop.workbench import Workbench

from ..conftest import flipped
from ..live import Live, live_queue, wait_for
from ..moto_store import CREDENTIALS, s3_server
from .small_runs import SmallRuns, in_small_shards
from .test_runs import FAST, JUDGED, check_judged, ended, submit

DOUBLED = {
    "name": "w",
    "inputs": {"rows": {}},
    "steps": [{"id": "twice", "type": "map", "set": {"number": "row.number * 2"}}],
}
NUMBERS = {"rows": [{"number": n} for n in range(7)]}  # in three shards


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


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: body["prompt"])


def check_doubled(runs: SmallRuns, run_id: str) -> None:
    assert runs.read(run_id).state is JobState.COMPLETED
    rows = runs.output(run_id)
    assert [json.loads(row["twice"])["number"] for row in rows] == [2 * n for n in range(7)]
    assert runs.results(run_id).output.success.exists()


class Calls:
    """Counts how often something is called, and lets it fail at first."""

    def __init__(self, real: Callable[..., Any], *failures: Exception) -> None:
        self.count = 0
        self._real = real
        self._failures = [*failures]

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        if self._failures:
            raise self._failures.pop()
        return self._real(*arguments)


def counted(monkeypatch: pytest.MonkeyPatch, name: str, *failures: Exception) -> Calls:
    calls = Calls(getattr(completion, name), *failures)
    monkeypatch.setattr(completion, name, calls)
    return calls


def test_a_full_disk_has_the_output_read_no_second_time(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = counted(monkeypatch, "read_output")
    full = StorageFull(Path("data"))
    writings = counted(monkeypatch, "write_run_manifest", full, full, full)
    run_id = runs.submit(DOUBLED, NUMBERS).run_id
    assert runs.lead(run_id)
    assert (readings.count, writings.count) == (1, 4)
    check_doubled(runs, run_id)


def test_a_full_disk_is_tried_again_after_a_while(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "RETRY_S", 3600.0)
    writings = counted(monkeypatch, "write_run_manifest", StorageFull(Path("data")))
    run_id = runs.submit(DOUBLED, NUMBERS).run_id
    assert not runs.lead(run_id, 60)
    assert writings.count == 1
    told = runs.table.redis.get(runs.table.keys.run(run_id))
    assert told is not None
    assert "storage_full" in str(told)


def test_a_store_that_fails_has_only_the_copy_repeated(
    runs: SmallRuns, endpoint: str, bucket: fs.FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = counted(monkeypatch, "read_output")
    writings = counted(monkeypatch, "write_run_manifest")
    away = StoreUnavailable("it is away")
    copies = counted(monkeypatch, "publish_files", away, away)
    stored = runs.elsewhere(s3_endpoint=endpoint)
    run_id = stored.submit(DOUBLED, NUMBERS, out="s3://bucket/some").run_id
    run, bench = stored.opened(run_id), Workbench(stored.settings.data_dir)
    wait_for(lambda: stored.advance(run, bench), "the third copy to succeed")
    assert copies.count == 3
    assert readings.count == writings.count == 1
    success = bucket.get_file_info(f"bucket/some/{run_id}/_SUCCESS")
    assert success.type is fs.FileType.File


@pytest.mark.parametrize("how", ["gone", "rotten", "unsealed"])
def test_a_part_that_is_not_as_it_was_lands_again(runs: SmallRuns, how: str) -> None:
    run_id = runs.submit(DOUBLED, NUMBERS).run_id
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    part = runs.results(run_id).output.part(1)
    while not part.exists():
        assert not runs.advance(run, bench)
    data = part.read_bytes()
    if how == "gone":
        part.unlink()
    elif how == "rotten":
        part.write_bytes(flipped(data, len(data) // 2))
    else:
        part.write_bytes(data.replace(b"penstock:sha256:", b"penstock:sha255:"))
    while not runs.advance(run, bench):
        pass
    check_doubled(runs, run_id)
    manifest = json.loads(runs.results(run_id).output.manifest.read_bytes())
    assert [part["rows"] for part in manifest["parts"]] == [3, 3, 1]


def test_a_run_cancelled_while_it_is_copied_is_not_called_complete(
    runs: SmallRuns, endpoint: str, bucket: fs.FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = runs.elsewhere(s3_endpoint=endpoint)
    run_id = stored.submit(DOUBLED, NUMBERS, out="s3://bucket/some").run_id
    real = ObjectStore.put
    once = threading.Lock()

    def put(store: ObjectStore, source: Path, name: str) -> None:
        if once.acquire(blocking=False):
            cancel_run(stored.settings, stored.table, run_id)
        real(store, source, name)

    monkeypatch.setattr(ObjectStore, "put", put)
    before = set(threading.enumerate())
    run, bench = stored.opened(run_id), Workbench(stored.settings.data_dir)
    wait_for(lambda: stored.advance(run, bench), "the run to be over")
    assert stored.read(run_id).state is JobState.CANCELLED
    wait_for(lambda: before.issuperset(threading.enumerate()), "the copying to end")
    found = bucket.get_file_info(fs.FileSelector(f"bucket/some/{run_id}", recursive=True))
    assert not [each.base_name for each in found if each.base_name.startswith("_")]
    assert not stored.results(run_id).output.success.exists()


def test_no_process_waits_at_its_end_for_a_store() -> None:
    program = (
        "import threading\n"
        "from penstock.jobs.workflow.runs.completion import _beside\n"
        "_beside('publisher', threading.Event().wait)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
