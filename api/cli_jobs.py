"""The verbs about bulk jobs: submit, watch, jobs, show, results, errors, cancel.

Knows the client and how to print; a watcher who leaves never harms the job.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ..jobs.model import JobState
from .cli_client import open_client
from .cli_input import input_file
from .cli_options import (
    ApiKey,
    Deadline,
    Format,
    IdColumn,
    Input,
    JobId,
    MaxErrorRate,
    Model,
    Name,
    Output,
    Prompt,
    Raw,
    Sampling,
    Schema,
    System,
    Url,
    UsageProblem,
    number_or_text,
    task_options,
)
from .cli_output import Printer, cell, place_of, state_of, summary
from .cli_runs import (
    EXIT_PAUSED,
    PauseNotes,
    detached,
    is_run,
    run_errors,
    run_results,
    show_run,
    steer_run,
    watch_run,
)
from .cli_validate import validate_rows
from .client import Job
from .client_errors import JobPaused, PenstockError
from .job_calls import SubmitOptions
from .patient_wait import both
from .progress import JobProgress
from .records import JobRecord

EXIT_JOB_FAILED = 3
EXIT_WITH_ERRORS = 4
EXIT_INTERRUPTED = 130
_SCREENFUL = 20
_NUM_NOTED = 5

_EXIT_CODES = {"completed": 0, "completed_with_errors": EXIT_WITH_ERRORS}


def submit(
    rows: Input,
    prompt: Prompt = None,
    model: Model = None,
    system: System = None,
    sampling: Sampling = None,
    schema: Schema = None,
    id_column: IdColumn = None,
    name: Name = None,
    raw: Raw = False,
    file_format: Format = None,
    priority: Annotated[int | None, typer.Option(help="Larger is served first.")] = None,
    deadline: Deadline = None,
    max_error_rate: MaxErrorRate = None,
    out: Annotated[
        str | None,
        typer.Option(help="What gets JOB/rows: a directory of the server's machine, or s3://…"),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key never makes a second job.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the job has ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look at the rows, as validate does.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Hand rows to the server; one answer is made for each."""
    printer = Printer(output)
    options = SubmitOptions(
        **task_options(prompt, system, sampling, raw, schema),
        model=model,
        id=id_column,
        name=name,
        format=file_format,
        priority=priority,
        deadline=number_or_text(deadline),
        max_error_rate=max_error_rate,
        output=out,
        idempotency_key=idempotency_key,
    )
    if dry_run:
        validate_rows(printer, rows, options, url, api_key)
        return
    with open_client(url, api_key, tell=printer.note if watch else None) as client:
        with input_file(rows, file_format) as path:
            job = client.jobs.submit(path, **options)
        note_rejected(printer, job.record)
        if watch:
            watch_job(printer, job)
            return
        printer.job(job.record)
        printer.note(f"penstock watch {job.id}  follows it")


def watch(job_id: JobId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Follow a job, or a run of a workflow, to its end. Ctrl-C leaves, and it goes on.

    On a terminal it waits through pauses, and says how they end. The exit status tells how the job
    ended: 0 completed, 4 with errors, 3 not at all (failed, cancelled, expired); or that it pauses
    where nobody looks on: 5.
    """
    printer = Printer(output)
    with open_client(url, api_key, tell=printer.note) as client:
        if is_run(job_id):
            watch_run(client, printer, job_id)
        watch_job(printer, client.jobs.get(job_id))


def jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = _SCREENFUL,
    after: Annotated[str | None, typer.Option(help="Go on behind this job.")] = None,
    status: Annotated[
        list[JobState] | None,
        typer.Option(
            parser=state_of,
            autocompletion=lambda: list(JobState),
            metavar=f"[{'|'.join(JobState)}]",
            help="Only jobs in this state; may be given again.",
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """List jobs, newest first."""
    with open_client(url, api_key) as client:
        found = client.jobs.list(limit=limit, after=after, status=status or ())
    Printer(output).jobs(job.record for job in found)


def show(
    job_id: JobId,
    row: Annotated[
        str | None,
        typer.Option("--row", metavar="ID", help="Of a run: the history of this row."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Show one job, one run of a workflow, or what a run did for one row."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        if is_run(job_id):
            show_run(client, printer, job_id, row)
        elif row is not None:
            raise UsageProblem(f"--row is for runs of workflows (run_…), got {job_id}")
        else:
            printer.job(client.jobs.get(job_id).record)


def results(
    job_id: JobId,
    status: Annotated[
        str | None, typer.Option(help="Only rows that `succeeded`, or that `failed`.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="How many.", show_default="20 on a terminal, else all"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for rows that are to come.")
    ] = False,
    step: Annotated[
        str | None, typer.Option(help="Of a run: the rows of this step, not of the output.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Print landed rows in the order of the input."""
    printer = Printer(output)
    tell = printer.note if follow else None
    if is_run(job_id):
        if status is not None:
            raise UsageProblem("--status is for jobs; a run's rows tell it in their __meta columns")
        with open_client(url, api_key, tell=tell) as client:
            run_results(client, printer, job_id, limit=limit, follow=follow, step=step)
        return
    if step is not None:
        raise UsageProblem(f"--step is for runs of workflows (run_…), got {job_id}")
    if limit is None and not printer.is_json and not follow:
        limit = _SCREENFUL
    page_rows = min(1000, limit + 1) if limit else 1000
    with open_client(url, api_key, tell=tell) as client:
        job = client.jobs.get(job_id)
        rows = job.results(status=status, follow=follow, page_rows=page_rows)
        if follow and limit is None and not printer.is_json:
            while screenful := list(itertools.islice(rows, _SCREENFUL)):
                printer.rows(screenful)
        else:
            printer.rows(itertools.islice(rows, limit))
        if follow:
            return  # whether there are more would have to be waited for
        if limit is not None and next(rows, None) is not None:
            printer.note("there are more: --limit N shows them, a pipe gets them all")
        elif not job.is_final:
            printer.note(f"the job is {job.status}: this is what has landed; --follow waits")


def errors(
    job_id: JobId,
    step: Annotated[
        str | None, typer.Option(help="Of a run: only what failed in this step.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Of a run: only errors of this code.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """List the input lines that were rejected and the rows that failed."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        if is_run(job_id):
            run_errors(client, printer, job_id, step=step, code=code)
            return
        if step is not None or code is not None:
            raise UsageProblem(f"--step and --code are for runs of workflows, got {job_id}")
        found = client.jobs.get(job_id).errors()
    if printer.is_json:
        for error in found:
            printer.json_line(error)
    elif found:
        printer.errors(found)
    else:
        printer.note("no line was rejected, and no row has failed")


def cancel(job_id: JobId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Stop a job, or a run of a workflow; what has landed stays."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        if is_run(job_id):
            steer_run(client, printer, job_id, "cancel")
            return
        job = client.jobs.get(job_id)
        if job.is_final:
            printer.note(f"the job had ended ({job.status}): nothing was done")
        else:
            job.cancel()
        printer.job(job.record)


def follow_to_the_end(printer: Printer, job: Job, how_to_return: str | Callable[[], str]) -> None:
    """Show a job's progress until it has ended; where it pauses, say how it goes on.

    Raises:
        typer.Exit: the watcher left, see `leaving`; or the job pauses, and nobody looks on who
            could resume it.
    """
    try:
        # On one console, so that notes stand above what is drawn.
        with leaving(printer, how_to_return), JobProgress(printer.err) as bar:
            on_look = both(bar.show, PauseNotes(printer).look)
            job.wait(through_pauses=printer.has_onlooker, on_look=on_look)
    except JobPaused:  # of which the notes have told
        if printer.is_json:
            printer.json_line(job.record.raw)
        raise typer.Exit(EXIT_PAUSED) from None


@contextmanager
def leaving(printer: Printer, how_to_return: str | Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C end the block in good order, at whatever moment it comes.

    Raises:
        typer.Exit: somebody left; `how_to_return` has told what that means.
    """
    try:
        yield
    except KeyboardInterrupt:
        printer.note(how_to_return if isinstance(how_to_return, str) else how_to_return())
        raise typer.Exit(EXIT_INTERRUPTED) from None


def exit_code(record: JobRecord) -> int:
    """Give the exit code that tells how a job ended; lines that became no rows are errors too."""
    code = _EXIT_CODES.get(record.status, EXIT_JOB_FAILED)
    return EXIT_WITH_ERRORS if code == 0 and record.counts.rejected else code


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
    failed = [error for error in job.errors() if "row_index" in error] if counts.failed else []
    for error in failed[:_NUM_NOTED]:
        printer.note(f"{place_of(error)} failed: {cell(error['error'].get('message'), 200)}")
    if counts.failed > len(failed[:_NUM_NOTED]):
        printer.note(f"… and {counts.failed - len(failed[:_NUM_NOTED]):,} more")
    printer.note(f"all errors: {how_to_see_all}")


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
    raise typer.Exit(exit_code(job.record))
