"""The verbs jobs and show: which jobs there are, and how one stands. Knows the client."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer

from ..jobs.model import JobState
from .cli_client import open_client
from .cli_ids import JOB, is_run, whole_id
from .cli_job_output import print_job, print_jobs, state_of
from .cli_options import ApiKey, JobId, Limit, Output, Url, UsageProblem, tags_of
from .cli_output import Printer
from .cli_runs import show_run
from .client import Client, Job

_SCREENFUL = 20
_PAGE = 100
_MOST_LOOKED_AT = 2_000  # for a tag, which no list of the server's is sorted by


def jobs(
    limit: Limit = _SCREENFUL,
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
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="KEY=VALUE",
            help="Only jobs with this tag, or metadata; may be given again.",
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """List jobs, newest first."""
    printer, wanted = Printer(output), tags_of(tags)
    with open_client(url, api_key) as client:
        after = None if after is None else whole_id(client, after, JOB)
        if wanted:
            found = _tagged(client, printer, wanted, limit, after, status or ())
            print_jobs(printer, [job.record for job in found])
        else:
            listed = client.jobs.list(limit=limit, after=after, status=status or ())
            print_jobs(printer, (job.record for job in listed))


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
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            show_run(client, printer, job_id, row)
        elif row is not None:
            raise UsageProblem(f"--row is for runs of workflows (run_…), got {job_id}")
        else:
            print_job(printer, client.jobs.get(job_id).record)


def _tagged(
    client: Client,
    printer: Printer,
    wanted: Mapping[str, str],
    limit: int,
    after: str | None,
    status: Sequence[JobState],
) -> Iterator[Job]:
    """Yield the newest jobs with all of these tags; say so where older ones are not looked at."""
    num_found = 0
    for _ in range(_MOST_LOOKED_AT // _PAGE):
        page = client.jobs.list(limit=_PAGE, after=after, status=status)
        for job in page:
            if wanted.items() <= job.record.metadata.items():
                yield job
                num_found += 1
                if num_found == limit:
                    return
        if len(page) < _PAGE:
            return
        after = page[-1].id
    printer.note(f"{_MOST_LOOKED_AT:,} jobs were looked through; --after {after}  goes on")
