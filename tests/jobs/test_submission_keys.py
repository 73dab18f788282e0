"""One idempotency key makes one job, whatever happens on the way."""

import errno
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis

from penstock.jobs.idempotency import IdempotencyKey
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import (
    RejectedLine,
    TaskSpec,
)
from penstock.jobs.settings import Settings
from penstock.jobs.submission import (
    FileSource,
    InvalidJob,
    PathSource,
    RowsSource,
    SubmitRequest,
    UnreadableInput,
    submit,
)

from .small_jobs import nothing_is_left

TASK = TaskSpec(model="m", prompt="Say {{ row.text }}")
ROWS = RowsSource([{"text": "a"}, {"text": "b"}])


def test_the_same_key_makes_one_job(
    settings: Settings, table: JobTable, redis_client: redis.Redis
) -> None:
    request = SubmitRequest(TASK, idempotency_key="night-7")
    rows = RowsSource([{"text": "a"}, 3])  # pyright: ignore[reportArgumentType]
    first = submit(settings, table, rows, request)
    again = submit(settings, table, rows, request)
    assert (first.created, again.created) == (True, False)
    assert again.spec == first.spec
    assert again.rejected == first.rejected
    assert [type(line) for line in again.rejected] == [RejectedLine]
    other = submit(
        settings, table, ROWS, SubmitRequest(TASK, idempotency_key="night-7", tenant="b")
    )
    assert other.created
    # Its submitter died between job.json and the table: asking again mends that.
    redis_client.delete(*(table.keys.job(first.spec.job_id, part) for part in ("", "landed")))
    assert not submit(settings, table, rows, request).created
    assert table.snapshot(first.spec.job_id) is not None


def test_a_key_that_redis_forgot_makes_no_second_job(
    settings: Settings, table: JobTable, redis_client: redis.Redis
) -> None:
    """The client asks again before any keeper has restored what was lost."""
    request = SubmitRequest(TASK, idempotency_key="k")
    first = submit(settings, table, ROWS, request)
    other = submit(settings, table, ROWS, SubmitRequest(TASK, idempotency_key="k", tenant="b"))
    redis_client.flushall()
    again = submit(settings, table, ROWS, request)
    assert (again.spec, again.created) == (first.spec, False)
    made = {path.name for path in settings.jobs_dir.iterdir()}
    assert made == {first.spec.job_id, other.spec.job_id}


def test_a_job_that_a_key_has_made_is_durable_before_it_is_acknowledged_again(
    settings: Settings, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it may have died between its name and the fsync of the name."""
    request = SubmitRequest(TASK, idempotency_key="k")
    job_id = submit(settings, table, ROWS, request).spec.job_id
    synced: list[Path] = []
    monkeypatch.setattr("penstock.jobs.submission.fsync_directory", synced.append)
    assert submit(settings, table, ROWS, request).spec.job_id == job_id
    assert synced == [settings.jobs_dir / job_id]


def test_racing_submissions_under_one_key_make_one_job(settings: Settings, table: JobTable) -> None:
    request = SubmitRequest(TASK, idempotency_key="k")
    answers: list[tuple[str, bool]] = []

    def race() -> None:
        submission = submit(settings, table, ROWS, request)
        answers.append((submission.spec.job_id, submission.created))

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert len(list(settings.jobs_dir.iterdir())) == len(list(settings.results_dir.iterdir())) == 1


def test_a_failed_submission_frees_its_key(
    settings: Settings, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SubmitRequest(TASK, idempotency_key="k")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("penstock.jobs.job_dir.replace_file", fail)
        with pytest.raises(OSError, match="full"):
            submit(settings, table, ROWS, request)
    assert nothing_is_left(settings)
    assert list(IdempotencyKey.all(settings)) == []
    assert submit(settings, table, ROWS, request).created


@pytest.mark.parametrize(
    ("source", "task"),
    [
        (ROWS, replace(TASK, sampling={"max_tokens": 3})),
        (ROWS, replace(TASK, model="another")),
        (RowsSource([{"text": "only one"}]), TASK),
        (RowsSource([{"text": "a"}, {"text": "c"}]), TASK),
        (RowsSource([{"text": "a"}, {"text": "b"}, {"text": "c"}]), TASK),
        (RowsSource([{"text": "b"}, {"text": "a"}]), TASK),
        (RowsSource([{"text": "a", "more": 1}, {"text": "b"}]), TASK),
    ],
)
def test_a_key_that_made_another_job_is_refused(
    settings: Settings, table: JobTable, source: RowsSource, task: TaskSpec
) -> None:
    first = submit(settings, table, ROWS, SubmitRequest(TASK, idempotency_key="k"))
    with pytest.raises(InvalidJob, match="another task or other rows") as caught:
        submit(settings, table, source, SubmitRequest(task, idempotency_key="k"))
    assert caught.value.param == "idempotency_key"
    assert first.spec.job_id in str(caught.value)
    assert len(table.list()) == 1


def test_a_key_is_good_for_the_bytes_that_it_was_sent_with(
    settings: Settings, table: JobTable, tmp_path: Path
) -> None:
    request = SubmitRequest(TASK, idempotency_key="k")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "score": 1.0}\nno JSON\n{"text": "b", "score": 1}\n')
    first = submit(settings, table, PathSource(path), request)
    with path.open("rb") as file:
        upload = FileSource(file, "rows.jsonl")
        file.read()  # as one has been that was sealed before another was found to be quicker
        assert submit(settings, table, upload, request).spec == first.spec
    assert not submit(settings, table, PathSource(path), request).created
    path.write_text(path.read_text().replace("no JSON", "no JSON, really"))
    assert not submit(settings, table, PathSource(path), request).created  # as useless as before
    path.write_text('{"text": "a", "score": 1}\nno JSON\n{"text": "b", "score": 1}\n')
    with pytest.raises(InvalidJob, match="other rows"):
        submit(settings, table, PathSource(path), request)
    path.unlink()
    with pytest.raises(UnreadableInput, match=r"cannot read .*rows\.jsonl"):
        submit(settings, table, PathSource(path), request)


def test_a_key_whose_job_has_lost_its_input_is_refused(settings: Settings, table: JobTable) -> None:
    request = SubmitRequest(TASK, idempotency_key="k")
    first = submit(settings, table, ROWS, request)
    JobDir(settings.jobs_dir, first.spec.job_id).input.write_bytes(b"rotten")
    with pytest.raises(InvalidJob, match="nobody can tell whether of these rows"):
        submit(settings, table, ROWS, request)


def test_a_line_that_was_refused_in_other_words_is_the_same_line(
    settings: Settings, table: JobTable, tmp_path: Path
) -> None:
    request = SubmitRequest(TASK, idempotency_key="k")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\nno JSON\n')
    spec = submit(settings, table, PathSource(path), request).spec
    bad_lines = JobDir(settings.jobs_dir, spec.job_id).bad_lines
    bad_lines.write_bytes(msgspec.json.encode(RejectedLine(2, "as an older version put it")))
    assert not submit(settings, table, PathSource(path), request).created
    path.write_text('{"text": "a"}\n\nno JSON\n')
    with pytest.raises(InvalidJob, match="other rows"):
        submit(settings, table, PathSource(path), request)
