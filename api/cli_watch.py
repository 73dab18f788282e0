"""The verb watch: a job, or a run, followed to its end. Knows what to say of the end.

A watcher who leaves never harms the job.
"""

from collections.abc import Callable

import typer

from .cli_client import open_client
from .cli_exit import EXIT_PAUSED, exit_code
from .cli_ids import is_run, whole_id
from .cli_job_output import place_of, summary
from .cli_onlooker import PauseNotes, Telling, detached, leaving, resume_with
from .cli_options import ApiKey, JobId, Output, Url
from .cli_output import Printer, cell
from .cli_runs import watch_run
from .client import Job
from .client_errors import JobPaused, PenstockError
from .patient_wait import both
from .progress import JobProgress
from .records import JobRecord

_NUM_NOTED = 5


def watch(job_id: JobId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Follow a job, or a run of a workflow, to its end. Ctrl-C leaves, and it goes on.

    On a terminal it waits through pauses, and says how they end. The exit status tells how the job
    ended: 0 completed, 4 with errors, 3 not at all (failed, cancelled, expired); or that it pauses
    where nobody looks on: 5.
    """
    printer = Printer(output)
    with open_client(url, api_key, tell=printer.note) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            watch_run(client, printer, job_id)
        else:
            watch_job(printer, client.jobs.get(job_id))


def watch_job(printer: Printer, job: Job) -> None:
    """Follow a job to its end, and say how it ended; the exit code says so too."""
    try:
        follow_to_the_end(printer, job, lambda: detached(job.record))
    except PenstockError:
        if not job.is_final:
            raise
    printer.note(summary(job.record))
    if printer.is_json:
        printer.json_line(job.record.raw)
    if job.record.error:
        printer.note(f"error: {job.record.error}")
    note_errors(printer, job, f"penstock errors {job.id}")
    if job.counts.succeeded + job.counts.failed:
        printer.note(f"rows: penstock results {job.id}, or {job.output_path}/rows")
    raise typer.Exit(exit_code(job.status, job.counts.rejected))


def follow_to_the_end(
    printer: Printer,
    job: Job,
    how_to_return: Telling,
    how_to_resume: Callable[[str], str] = resume_with,
) -> None:
    """Show a job's progress until it has ended; where it pauses, say how it goes on.

    Raises:
        typer.Exit: the watcher left, see `leaving`; or the job pauses, and nobody looks on who
            could resume it.
    """
    try:
        # On one console, so that notes stand above what is drawn.
        with leaving(printer, how_to_return), JobProgress(printer.err) as bar:
            on_look = both(bar.show, PauseNotes(printer, how_to_resume).look)
            job.wait(through_pauses=printer.has_onlooker, on_look=on_look)
    except JobPaused:  # of which the notes have told
        if printer.is_json:
            printer.json_line(job.record.raw)
        raise typer.Exit(EXIT_PAUSED) from None


def note_rejected(printer: Printer, record: JobRecord) -> None:
    """Name the lines of the input that could not become rows."""
    noted = record.rejected[:_NUM_NOTED]
    for line in noted:
        printer.note(f"line {line.line} rejected: {cell(line.message, 200)}")
    if noted and record.counts.rejected > len(noted):
        printer.note(f"… and {record.counts.rejected - len(noted):,} more")


def note_errors(printer: Printer, job: Job, how_to_see_all: str) -> None:
    """Name the first rows that failed, and say how to see all that went wrong."""
    counts = job.counts
    if not counts.failed + counts.rejected:
        return
    told = job.errors(limit=_NUM_NOTED) if counts.failed else []
    failed = [error for error in told if "row_index" in error]
    for error in failed[:_NUM_NOTED]:
        printer.note(f"{place_of(error)} failed: {cell(error['error'].get('message'), 200)}")
    if counts.failed > len(failed[:_NUM_NOTED]):
        printer.note(f"… and {counts.failed - len(failed[:_NUM_NOTED]):,} more")
    printer.note(f"all errors: {how_to_see_all}")
