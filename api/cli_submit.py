"""The verb submit: rows go to the server, and become a job there. Knows the client."""

from typing import Annotated

import typer

from .cli_client import open_client
from .cli_flags import spread
from .cli_input import input_file
from .cli_job_output import print_job
from .cli_options import (
    ApiKey,
    Deadline,
    Input,
    MaxErrorRate,
    Output,
    Priority,
    Tags,
    Url,
    number_or_text,
    tags_of,
)
from .cli_output import Printer
from .cli_task import TaskFlags
from .cli_validate import validate_rows
from .cli_watch import note_rejected, watch_job
from .job_calls import SubmitOptions


@spread
def submit(
    rows: Input,
    task: TaskFlags,
    priority: Priority = None,
    deadline: Deadline = None,
    max_error_rate: MaxErrorRate = None,
    tags: Tags = None,
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
    options = task.options() | SubmitOptions(
        priority=priority,
        deadline=number_or_text(deadline),
        max_error_rate=max_error_rate,
        metadata=tags_of(tags) or None,
        output=out,
        idempotency_key=idempotency_key,
    )
    if dry_run:
        validate_rows(printer, rows, options, url, api_key)
        return
    with open_client(url, api_key, tell=printer.note if watch else None) as client:
        with input_file(rows, task.file_format) as path:
            job = client.jobs.submit(path, **options)
        note_rejected(printer, job.record)
        if watch:
            watch_job(printer, job)
            return
        print_job(printer, job.record)
        printer.note(f"penstock watch {job.id}  follows it")
