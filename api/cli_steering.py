"""The verbs that steer bulk jobs: pause, resume, priority, update, retry, cancel, delete.

Knows the client and how to print; what a verb means for a job is the server's to know.
"""

from typing import Annotated

import typer

from .cli_client import open_client
from .cli_ids import is_run, require_whole, whole_id
from .cli_job_output import print_job, tell_unparsed
from .cli_options import (
    ApiKey,
    Deadline,
    JobId,
    MaxErrorRate,
    Output,
    Priority,
    Url,
    UsageProblem,
    WholeId,
    number_or_text,
)
from .cli_output import Printer
from .cli_runs import change_run, retry_run, steer_run
from .cli_watch import watch_job
from .client_errors import BadRequest
from .job_calls import JobChanges
from .job_errors import REJECTED_LINE
from .run_calls import RunChanges

Code = Annotated[
    list[str] | None,
    typer.Option("--code", help="Only rows whose error has this code; may be given again."),
]


def pause(job_id: JobId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Begin nothing more of a job, or of a run of a workflow; what runs goes on to its end."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            steer_run(client, printer, job_id, "pause")
            return
        job = client.jobs.get(job_id)
        if not job.is_final:
            job.pause()
    if job.status != "paused":
        printer.note(f"the job is {job.status}: there is nothing to pause")
    print_job(printer, job.record)


def resume(job_id: JobId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Let a paused job, or run of a workflow, go on."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            steer_run(client, printer, job_id, "resume")
            return
        job = client.jobs.resume(job_id)
    if job.is_final:
        printer.note(f"the job had ended ({job.status}): `penstock retry` runs again what failed")
    print_job(printer, job.record)


def priority(
    job_id: JobId,
    priority: Annotated[
        int, typer.Argument(metavar="N", help="Larger is served first; may be below 0.")
    ],
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Serve a job, or a run of a workflow, earlier or later from now on."""
    with open_client(url, api_key) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            change_run(client, Printer(output), job_id, {"priority": priority})
            return
        print_job(Printer(output), client.jobs.update(job_id, priority=priority).record)


def update(
    job_id: JobId,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    priority: Priority = None,
    deadline: Deadline = None,
    max_error_rate: MaxErrorRate = None,
    no_deadline: Annotated[
        bool, typer.Option("--no-deadline", help="Take the deadline away.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Change a job, or the name or priority of a run, while it lives."""
    of_both = RunChanges()
    if name is not None:
        of_both["name"] = name
    if priority is not None:
        of_both["priority"] = priority
    changes = JobChanges(**of_both)
    if max_error_rate is not None:
        changes["max_error_rate"] = max_error_rate
    if deadline is not None or no_deadline:
        changes["deadline"] = None if no_deadline else number_or_text(deadline)
    if not changes:
        raise UsageProblem("nothing to change: name it, as in --priority 5")
    with open_client(url, api_key) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            if changes.keys() - of_both.keys():
                raise UsageProblem("of a run of a workflow, --name and --priority can be changed")
            change_run(client, Printer(output), job_id, of_both)
            return
        print_job(Printer(output), client.jobs.update(job_id, **changes).record)


def retry(
    job_id: JobId,
    code: Code = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Run again what failed of a job that has ended; it takes the places of what failed.

    Without --code, also rows that were not run, as the job ended before their turn.

    Of a run of a workflow: a run of its own, which takes over all that succeeded.
    """
    printer = Printer(output)
    with open_client(url, api_key, tell=printer.note if watch else None) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            if code:
                raise UsageProblem(f"--code is for jobs; all that failed of {job_id} is retried")
            retry_run(client, printer, job_id, watch=watch)
            return
        if code and REJECTED_LINE in code:
            raise UsageProblem(
                f"lines that were rejected ({REJECTED_LINE}) never became rows: "
                "mend them, and submit them again"
            )
        try:
            job = client.jobs.retry(job_id, codes=code or None)
        except BadRequest:
            tell_unparsed(printer, client.jobs.get(job_id).counts)
            raise
        if watch:
            watch_job(printer, job)
            return
        print_job(printer, job.record)
        home = job.record.retry_of or job_id  # of a retry, the job that it retries
        printer.note(f"penstock watch {job.id}  follows it; its rows then stand in {home}")


def cancel(job_id: JobId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Stop a job, or a run of a workflow; what has landed stays."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            steer_run(client, printer, job_id, "cancel")
            return
        job = client.jobs.get(job_id)
        if job.is_final:
            printer.note(f"the job had ended ({job.status}): nothing was done")
        else:
            job.cancel()
        print_job(printer, job.record)


def delete(job_id: WholeId, url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """Remove a job or a run that has ended, its input and its rows. There is no way back.

    The retries of a job are removed with it.
    """
    printer = Printer(output)
    job_id = require_whole(job_id, "delete")
    with open_client(url, api_key) as client:
        if is_run(job_id):
            client.workflows.delete(job_id)
        else:
            client.jobs.delete(job_id)
    printer.note(f"{job_id} is removed; what it has used stays on record")
