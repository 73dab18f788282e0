"""What people see: tables and the progress line, on a terminal of 80 columns."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from penstock.api.cards import job_card
from penstock.api.cli_job_output import (
    print_job,
    print_job_errors,
    print_job_rows,
    print_jobs,
    summary,
)
from penstock.api.cli_onlooker import PauseNotes, detached
from penstock.api.cli_output import OutputFormat, Printer
from penstock.api.cli_workflow_output import print_check
from penstock.api.progress import JobProgress
from penstock.api.records import JobRecord, Row
from penstock.api.wording import progress_facts
from penstock.jobs.model import Counts, JobState

JOB = "job_01K3ZZZZZZZZZZZZZZZZ4K2J9Q"


@pytest.fixture
def printer(monkeypatch: pytest.MonkeyPatch) -> Printer:
    monkeypatch.setenv("COLUMNS", "80")
    return Printer(OutputFormat.TABLE)


def record(status: JobState, **facts: Any) -> JobRecord:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    defaults: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B-Instruct", "created_at": at}
    return JobRecord(JOB, status, **{**defaults, **facts})


def test_jobs_break_no_word(printer: Printer, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts(total=12345, succeeded=12300, failed=45)
    print_jobs(
        printer, [record(JobState.COMPLETED_WITH_ERRORS, counts=counts), record(JobState.RUNNING)]
    )
    head, *lines = capsys.readouterr().out.splitlines()
    assert "name" not in head
    words = " ".join(lines).split()
    assert {JOB, "errors", "running", "12,345/12,345", "01-02"} <= set(words)
    assert all(len(line) <= 80 for line in (head, *lines))


@pytest.mark.parametrize(("width", "lost"), [(80, ""), (60, "model"), (50, "name")])
def test_a_narrow_table_of_jobs_leaves_columns_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, lost: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    counts = Counts(total=18, succeeded=18, rejected=0)
    print_jobs(
        Printer(OutputFormat.TABLE),
        [record(JobState.COMPLETED, counts=counts, name="all the summaries of a night")],
    )
    head, line = capsys.readouterr().out.splitlines()
    assert lost not in head.split()
    assert {JOB, "completed", "18/18"} <= set(line.split())
    assert max(len(head), len(line)) <= width


def test_answers_that_are_no_documents_are_told_of(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    job = record(JobState.COMPLETED, counts=Counts(total=1800, succeeded=1800, unparsed=1200))
    for line in (summary(job), progress_facts(job), job_card(job)):
        assert "1,200" in line and "unparsed" in line
    print_job(printer, job)
    assert "1,200 (not the document that was asked for" in capsys.readouterr().out
    fine = record(JobState.COMPLETED, counts=Counts(total=18, succeeded=18))
    print_job(printer, fine)
    told = (summary(fine), progress_facts(fine), job_card(fine), capsys.readouterr().out)
    assert not any("unparsed" in each for each in told)


def test_rejected_lines_are_told_of_beside_the_status(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    job = record(JobState.COMPLETED, counts=Counts(total=18, succeeded=18, rejected=2))
    print_jobs(printer, [job])
    head, line = capsys.readouterr().out.splitlines()
    assert "rejected" in head
    assert "2 lines" in line
    print_job(printer, job)
    assert "completed, 2 lines rejected" in capsys.readouterr().out


def test_a_watcher_is_told_shortly_of_a_pause_and_that_leaving_ends_none(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = "paused_by_user: nothing more is begun until it is resumed"
    too_many = "error_rate: 3 of 10 rows failed; resume goes on"
    for reason in (by_hand, too_many):
        PauseNotes(printer).look(record(JobState.PAUSED, status_reason=reason))
    first, second = capsys.readouterr().err.splitlines()
    how = f"penstock resume {JOB}  lets it go on"
    assert first == f"paused: somebody wanted it. {how}"
    assert second == f"paused: error_rate: 3 of 10 rows failed. {how}"
    assert "the job stays paused" in detached(record(JobState.PAUSED))
    assert "the job goes on" in detached(record(JobState.RUNNING))


def test_an_older_server_tells_less_of_a_step(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"id": "ask", "type": "generate", "from": ["texts"], "models": ["m"], "columns": []}
    found = {"name": "flow", "columns_known": False, "warnings": []}
    print_check(printer, {**found, "steps": [{**step, "waits_for_all_rows": True}]})
    assert "waits for all" in capsys.readouterr().out


def test_ids_are_never_cut(printer: Printer, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("id", "workflow", "status", "took")
    line = (JOB, "judge-and-mend-and-judge-again", "completed_with_errors", "1h 02m")
    printer.table(names, [line], unbroken=names[1:], too_long="ellipsis")
    head, found = capsys.readouterr().out.splitlines()
    assert found.split()[0] == JOB
    assert max(len(head), len(found)) <= 80


def test_a_name_gives_no_orders_to_the_terminal(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    named = record(JobState.RUNNING, name="a\x1b]0;owned\x07b")
    print_jobs(printer, [named])
    print_job(printer, named)
    printer.note("of a\x1b[2Jb\nnext line")
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\x07" not in printed.out
    assert "]0;owned" in printed.out
    assert printed.err.count("\n") == 2


def test_errors_are_told_in_full(printer: Printer, capsys: pytest.CaptureFixture[str]) -> None:
    message = " ".join(["the prompt is too long for the context window"] * 4)
    print_job_errors(
        printer,
        [
            {"line": 2, "message": "not JSON"},
            {"row_index": 7, "custom_id": "r7", "sample_index": 1,
             "error": {"code": "prompt_too_long", "message": message}},
        ]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "line 2" in said
    assert "row 7, sample 1" in said
    assert "{" not in said
    assert said.count("window") == 4


def test_the_sample_is_told_where_there_are_several(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Row({"row_index": 0, "sample_index": 0, "status": "succeeded", "output": "x"})
    print_job_rows(printer, [one])
    assert "sample" not in capsys.readouterr().out
    print_job_rows(printer, [one, Row({**one, "sample_index": 1})])
    assert "sample" in capsys.readouterr().out


def test_a_vector_is_shown_by_its_beginning(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = [0.125, -1.5, 3.0] * 128
    print_job_rows(printer, [Row({"row_index": 0, "status": "succeeded", "embedding": vector})])
    head, line = capsys.readouterr().out.splitlines()
    assert "[0.125, -1.5, 3, …] 384 numbers" in line
    assert max(len(head), len(line)) <= 80


def test_progress_fits_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(width=80, force_terminal=True, record=True)
    counts = Counts(total=100_000, succeeded=12_345)
    with JobProgress(console) as bar:
        bar.show(record(JobState.RUNNING, counts=counts, tokens_per_s=61_234.0, eta_s=6720.0))
    label = "…4K2J9Q running "
    line = console.export_text().rpartition(label)[2].splitlines()[0].rstrip()
    assert line.endswith("12,345/100,000 rows · 61.2k tok/s · eta 1h 52m")
    assert len(label + line) <= 80


def test_who_watches_through_a_pipe_is_told_that_a_job_pauses_and_why() -> None:
    console = Console(width=300, force_terminal=False, record=True)
    reason = "error_rate: 3 of 10 rows failed"
    with JobProgress(console) as bar:
        counts = Counts(total=100, succeeded=3)
        bar.show(record(JobState.RUNNING, counts=counts))
        for _ in range(3):
            bar.show(record(JobState.PAUSED, counts=counts, status_reason=reason))
        bar.show(record(JobState.RUNNING, counts=counts))
    lines = console.export_text().splitlines()
    assert [reason in line for line in lines if line.strip()] == [False, True, False]


def test_one_row_is_no_rows() -> None:
    counts = Counts(total=1, succeeded=1, rejected=1)
    assert "1 row · 1 line rejected" in summary(
        record(JobState.COMPLETED_WITH_ERRORS, counts=counts)
    )
