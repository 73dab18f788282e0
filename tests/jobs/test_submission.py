import errno
import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import durable
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import (
    ColumnType,
    Counts,
    InvalidSampling,
    JobSpec,
    JobState,
    Message,
    TaskSpec,
)
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.row_schema import row_schema
from penstock.jobs.sealed_input import InputSealer
from penstock.jobs.settings import Settings
from penstock.jobs.submission import (
    FileSource,
    InvalidJob,
    PathSource,
    RowsSource,
    StorageFull,
    SubmitRequest,
    UnreadableInput,
    submit,
)

from .memory import peak_growth_mb
from .small_jobs import nothing_is_left

TASK = TaskSpec(model="m", prompt="Say {{ row.text }}")
ROWS = RowsSource([{"text": "a"}, {"text": "b"}])


def test_a_job_from_a_file_with_bad_lines(
    settings: Settings, table: JobTable, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(
        '{"text": "a", "n": 1, "doc": 7}\n\n{broken\n{"text": "b", "n": 2.5, "tags": ["x"]}\n[]\n'
        '{"text": "c", "n": null, "flag": true, "doc": "x"}\n'
    )
    request = SubmitRequest(TASK, name="n", id_column="doc", priority=2, metadata={"k": "v"})
    submission = submit(settings, table, PathSource(path), request)
    spec = submission.spec
    assert submission.created
    assert submission.num_rejected == spec.num_rejected == 2
    assert [line.line for line in submission.rejected] == [3, 5]
    assert (spec.num_rows, spec.num_shards, spec.shard_rows) == (3, 1, 64)
    assert spec.columns == {
        "text": ColumnType.STRING,
        "n": ColumnType.FLOAT,
        "doc": ColumnType.JSON,  # a number here, a text there
        "tags": ColumnType.JSON,
        "flag": ColumnType.BOOL,
    }
    assert (spec.name, spec.priority, spec.metadata, spec.tenant) == ("n", 2, {"k": "v"}, "default")
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    with job_dir.open_input() as sealed:
        # Bad lines have a place in the order, blank ones have not.
        found = [(row.row_index, row.custom_id) for row in sealed.shard(0)]
        assert found == [(0, "7"), (2, None), (4, "x")]
    assert [line.line for line in job_dir.read_bad_lines()] == [3, 5]
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.state, snapshot.counts) == (
        JobState.QUEUED,
        Counts(total=3, pending=3, rejected=2),
    )
    assert ResultsDir.of(spec).rows.is_dir()


def test_a_batchs_line_says_itself_what_it_is_called(settings: Settings, table: JobTable) -> None:
    rows = [
        {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": []}, "key": "k"},
        {"custom_id": "b", "body": "of an e-mail"},
    ]

    def ids(id_column: str | None) -> list[str | None]:
        request = SubmitRequest(TaskSpec(model="m"), id_column=id_column)
        spec = submit(settings, table, RowsSource(rows), request).spec
        with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
            return [row.custom_id for row in sealed.shard(0)]

    assert ids(None) == ["a", None]
    assert ids("key") == ["k", None]


@pytest.mark.parametrize(
    ("source", "format"),
    [
        (FileSource(io.BytesIO(b'{"text": "a"}\n'), "upload.jsonl"), None),
        (FileSource(io.BytesIO(b"text\na\n")), "csv"),
        (RowsSource([{"text": "a"}]), None),
    ],
)
def test_every_kind_of_source(
    settings: Settings, table: JobTable, source: Any, format: str
) -> None:
    spec = submit(settings, table, source, SubmitRequest(TASK, format=format)).spec
    assert (spec.num_rows, spec.columns) == (1, {"text": ColumnType.STRING})


@pytest.mark.parametrize(
    ("changes", "param", "complaint"),
    [
        (
            {"task": TaskSpec(model="m", prompt="{{ row.txt }}")},
            "prompt",
            r"uses row.txt, but the input has no column 'txt' \(columns: text\)",
        ),
        ({"task": TaskSpec(model="m", prompt="{{ row.text")}, "prompt", "cannot be used: line 1"),
        (
            {"task": TaskSpec(model="m", messages=(Message("user", "{{ row.x }}"),))},
            "messages[0].content",
            "no column 'x'",
        ),
        ({"task": TaskSpec(model="m", messages=())}, "messages", "at least one"),
        (
            {"task": TaskSpec(model="m", prompt="", messages=(Message("user", ""),))},
            "messages",
            "either prompt or messages",
        ),
        ({"task": TaskSpec(model="m")}, "prompt", "give a prompt or messages template"),
        ({"task": TaskSpec(model="", prompt="x")}, "model", "must be named"),
        (
            {"task": TaskSpec(model="m", prompt="x", endpoint="/v1/dance")},
            "endpoint",
            "must be one of .*, got '/v1/dance'",
        ),
        ({"id_column": "doc"}, "id", r"no column 'doc' for the id \(columns: text\)"),
        ({"shard_rows": 0}, "shard_rows", "at least 1, got 0"),
        ({"out": "/proc/nowhere"}, "output", "cannot write results to /proc/nowhere"),
    ],
)
def test_what_cannot_become_a_job_names_the_part_at_fault(
    settings: Settings, table: JobTable, changes: dict[str, Any], param: str, complaint: str
) -> None:
    request = SubmitRequest(**{"task": TASK, **changes})
    with pytest.raises(InvalidJob, match=complaint) as caught:
        submit(settings, table, ROWS, request)
    assert caught.value.param == param
    assert nothing_is_left(settings)
    assert table.list() == []


def test_sampling_is_checked_once_for_all_rows(settings: Settings, table: JobTable) -> None:
    task = TaskSpec(model="m", prompt="x", sampling={"temperature": 9})
    with pytest.raises(InvalidSampling, match="temperature must be from 0 to 2, got 9"):
        submit(settings, table, ROWS, SubmitRequest(task))
    assert nothing_is_left(settings)


@pytest.mark.parametrize(
    ("source", "error", "complaint"),
    [
        (RowsSource([]), InvalidJob, "the input has no rows: blank lines"),
        (
            FileSource(io.BytesIO(b'\n{"a"}\n[]\n'), "a.jsonl"),
            InvalidJob,
            "no usable rows: line 2 is not JSON",
        ),
        (PathSource("/nowhere/in.jsonl"), UnreadableInput, "No such file"),
        (FileSource(io.BytesIO(b"PAR1 and no more"), "a"), UnreadableInput, "as Parquet"),
        (
            RowsSource([{f"column {i}": 1} for i in range(1_001)]),
            InvalidJob,
            "more than 1000 columns, at line 1001",
        ),
    ],
)
def test_an_input_without_usable_rows_leaves_nothing(
    settings: Settings, table: JobTable, source: Any, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        submit(settings, table, source, SubmitRequest(TASK))
    assert nothing_is_left(settings)


@pytest.mark.parametrize("step", ["write", "fsync", "link"])
def test_a_full_disk_at_the_seal_leaves_no_half_job(
    settings: Settings, table: JobTable, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, step, fail)
        if step == "link":  # job.json is renamed into place, not linked
            patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageFull, match="no space left"):
            submit(settings, table, ROWS, SubmitRequest(TASK))
    assert nothing_is_left(settings)
    assert table.list() == []


def test_a_full_disk_in_the_middle_of_the_input_leaves_no_half_job(
    settings: Settings, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    real_flush = InputSealer._flush

    def flush(sealer: InputSealer) -> None:
        written.append(1)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_flush(sealer)

    monkeypatch.setattr(InputSealer, "_flush", flush)
    rows = RowsSource([{"text": "x" * 100}] * 500)
    with pytest.raises(StorageFull):
        submit(settings, table, rows, SubmitRequest(TASK))
    assert nothing_is_left(settings)


def test_a_disk_that_is_really_full(settings: Settings, table: JobTable, small_disk: Path) -> None:
    """Arrow writes the input, and its errors are not Python's: only a real disk tells."""
    small = replace(settings, data=str(small_disk))
    rows = RowsSource([{"text": random.Random(i).randbytes(400).hex()} for i in range(4_000)])
    with pytest.raises(StorageFull, match="no space left for"):
        submit(small, table, rows, SubmitRequest(TASK))
    assert nothing_is_left(small)
    assert submit(small, table, ROWS, SubmitRequest(TASK)).created


def test_a_hundred_thousand_rows_are_sealed_in_bounded_memory(
    settings: Settings, table: JobTable, tmp_path: Path
) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for index in range(100_500):
            file.write(json.dumps({"id": index, "text": f"row {index} " + "lorem ipsum " * 80}))
            file.write("\n")
    assert path.stat().st_size > 95_000_000
    submit(settings, table, ROWS, SubmitRequest(TASK))  # what every process loads once is there
    request = SubmitRequest(TASK, id_column="id")
    assert peak_growth_mb(lambda: submit(settings, table, PathSource(path), request)) < 60
    [job, _] = table.list()
    spec = JobDir(settings.jobs_dir, job.job_id).read_spec()
    assert (spec.num_rows, spec.shard_rows, spec.num_shards) == (100_500, 256, 393)
    with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
        assert sealed.num_shards == 393
        for shard in (0, 200, 392):
            rows = sealed.shard(shard)
            first = shard * 256
            assert [row.row_index for row in rows] == list(range(first, first + len(rows)))
            assert all(row.custom_id == str(row.row["id"]) == str(row.row_index) for row in rows)
    assert [each.name for each in (settings.jobs_dir / spec.job_id).glob("*.small")] == []


def test_only_who_asks_for_logprobs_gets_a_column_for_them(
    settings: Settings, table: JobTable
) -> None:
    def made(task: TaskSpec, *rows: dict[str, Any]) -> JobSpec:
        return submit(settings, table, RowsSource(list(rows)), SubmitRequest(task)).spec

    asks = {"body": {"messages": [], "logprobs": True}, "text": "x"}
    asks_too = {"body": {"prompt": "x", "logprobs": 0}}
    silent = {"body": {"messages": [], "logprobs": False}, "prompt": "x"}
    own = TaskSpec(model="m")
    for task, rows, has_logprobs in (
        (replace(TASK, sampling={"logprobs": 0}), [{"text": "x"}], True),
        (own, [silent, asks], True),
        (own, [asks_too], True),
        (own, [silent, {"body": "text"}, {"prompt": "x"}], False),
        (TASK, [asks], False),
    ):
        spec = made(task, *rows)
        assert spec.has_logprobs is has_logprobs
        assert (spec.version == 4) is has_logprobs
        assert ("logprobs" in row_schema(spec).names) is has_logprobs
    with pytest.raises(InvalidJob, match="prompt_logprobs cannot be landed"):
        made(replace(TASK, sampling={"prompt_logprobs": 2}), {"text": "x"})


def test_dimensions_are_for_vectors(settings: Settings, table: JobTable) -> None:
    vectors = replace(TASK, endpoint="/v1/embeddings", dimensions=4)
    spec = submit(settings, table, ROWS, SubmitRequest(vectors)).spec
    assert (spec.task.dimensions, spec.version) == (4, 4)
    for task in (replace(TASK, dimensions=4), replace(vectors, dimensions=0)):
        with pytest.raises(InvalidJob, match="dimensions") as caught:
            submit(settings, table, ROWS, SubmitRequest(task))
        assert caught.value.param == "dimensions"
