"""A dry run has a process of its own: whatever becomes of that, what is known is told."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import dry_run_process
from penstock.jobs.dry_run_process import DryRunFailed, DryRunProcess
from penstock.jobs.dry_run_report import DryRunReport
from penstock.jobs.inputs import UnreadableInput
from penstock.jobs.model import TaskSpec
from penstock.jobs.settings import Settings
from penstock.jobs.sources import FileSource, NamedFileSource, PathSource, RowsSource, Source
from penstock.jobs.submit_request import SubmitRequest

ROWS = [{"t": "a"}, {"t": "b"}, {"t": "a"}, {"u": 1}]
# As much work as one row may do: seconds.
HOSTILE = "{% for a in range(9999) %}{% for b in range(480) %}{% endfor %}{% endfor %}{{ row.t }}"
ENDLESS = 1_000_000  # rows


def process_for(source: Source, prompt: str = "Say {{ row.t }}", **options: Any) -> DryRunProcess:
    task = TaskSpec("fake:chat=0", prompt=prompt, sampling={"max_tokens": 4})
    return DryRunProcess(Settings(), source, SubmitRequest(task), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Rows for minutes."""
    path = tmp_path / "many.jsonl"
    path.write_text('{"t": "a"}\n' * ENDLESS)
    return path


def test_wherever_the_rows_are_they_are_the_same(path: Path) -> None:
    told: list[DryRunReport] = []
    found = process_for(PathSource(path)).run(told.append)
    assert (found.rows, found.duplicates.count, found.row_errors.count) == (4, 1, 1)
    assert found.complete
    assert (told[0].rows, told[-1]) == (0, found)
    with path.open("rb") as file:
        for source in (
            RowsSource(ROWS),
            FileSource(file, "a.jsonl"),
            NamedFileSource(path.rename(path.with_suffix("")), "b.jsonl"),
        ):
            assert process_for(source).run() == found


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "cannot read .*none.jsonl"),
        ("empty.jsonl", b"", "it is empty"),
        ("a.parquet", b"PAR1 is not all", "as Parquet"),
        ("s3://", None, "s3"),
    ],
)
def test_what_cannot_be_read_is_said_so(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    place = name if name.startswith("s3") else tmp_path / name
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableInput, match=says):
        process_for(PathSource(place)).run()


def test_a_hostile_template_has_its_time_and_no_more(path: Path) -> None:
    found = process_for(PathSource(path), HOSTILE, limit_s=0.01).run()
    assert not found.complete
    assert found.stopped is not None
    assert "0.01 s" in found.stopped
    assert found.rows < len(ROWS)


def test_one_row_that_does_not_end_takes_back_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run_process, "_GRACE_S", 0.0)
    run = process_for(PathSource(path), HOSTILE, limit_s=600.0)
    # The time is up as soon as there is anything to tell.
    found = run.run(lambda report: run._end_late())
    assert (found.complete, found.rows) == (False, 0)
    assert "had not ended" in (found.stopped or "")


def test_a_process_that_is_killed_leaves_what_it_told(many: Path) -> None:
    run = process_for(PathSource(many))

    def kill(report: DryRunReport) -> None:
        if report.rows:
            assert run._process is not None
            os.kill(run._process.pid, signal.SIGKILL)

    found = run.run(kill)
    assert 0 < found.rows < ENDLESS
    assert found.duplicates.count == found.rows - 1
    assert "SIGKILL" in (found.stopped or "")
    assert found.share_read is not None
    assert 0 < found.share_read < 1


def test_a_line_that_takes_all_memory_ends_it_with_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run_process, "memory_bound", lambda: 200 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"t": "a"}\n{"t": [' + b"[]," * 5_000_000 + b"[]]}\n")
    found = process_for(PathSource(path)).run()
    assert not found.complete
    assert "more memory than 200 MiB" in (found.stopped or "")


def test_who_stops_it_gets_no_report_and_leaves_no_process(many: Path) -> None:
    run = process_for(PathSource(many))
    begun = threading.Event()
    failures: list[str] = []

    def wait_for_it() -> None:
        try:
            run.run(lambda report: begun.set())
        except DryRunFailed as error:
            failures.append(str(error))

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert begun.wait(60)
    run.stop()
    thread.join(60)
    assert failures == ["the dry run was stopped"]
    assert run._process is not None
    assert run._process.returncode == -signal.SIGKILL
    with pytest.raises(DryRunFailed, match="was stopped"):
        run.run()


def test_its_process_knows_no_key_and_goes_first(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PENSTOCK_API_KEY", "PENSTOCK_REDIS_URL", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sk-of-ours")
    run = process_for(PathSource(many))
    seen: dict[str, str] = {}

    def look(report: DryRunReport) -> None:
        if seen:  # told before it was stopped, and heard afterwards
            return
        assert run._process is not None
        process = Path(f"/proc/{run._process.pid}")
        seen.update({name: (process / name).read_text() for name in ("environ", "oom_score_adj")})
        run.stop()

    with pytest.raises(DryRunFailed, match="was stopped"):
        run.run(look)
    assert "PATH=" in seen["environ"]
    assert "sk-of-ours" not in seen["environ"]
    assert int(seen["oom_score_adj"]) == 1000
