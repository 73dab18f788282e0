"""The verbs results and errors: what came of each row, of a job or a run. Knows the client."""

import itertools
from typing import Annotated

import typer

from .cli_client import open_client
from .cli_ids import is_run, whole_id
from .cli_job_output import print_job_errors, print_job_rows, tell_unparsed
from .cli_options import ApiKey, JobId, Output, Step, Url, UsageProblem
from .cli_output import Printer
from .cli_runs import run_errors, run_results
from .client import Job
from .job_errors import REJECTED_LINE
from .wording import counted, error_words

_SCREENFUL = 20
_ERRORS_SHOWN = 100  # in a table, which holds them all


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
    step: Step = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Print landed rows in the order of the input.

    Rows count from 0, so that row 0 is the first.
    """
    printer = Printer(output)
    with open_client(url, api_key, tell=printer.note if follow else None) as client:
        job_id = whole_id(client, job_id)
        if limit is None and not printer.is_json and not follow:
            limit = _SCREENFUL
        if is_run(job_id):
            if status is not None:
                raise UsageProblem(
                    "--status is for jobs; a run's rows tell it in their __meta columns"
                )
            run_results(client, printer, job_id, limit=limit, follow=follow, step=step)
            return
        if step is not None:
            raise UsageProblem(f"--step is for runs of workflows (run_…), got {job_id}")
        _job_results(printer, client.jobs.get(job_id), status, limit, follow)


def _job_results(
    printer: Printer, job: Job, status: str | None, limit: int | None, follow: bool
) -> None:
    page_rows = min(1000, limit + 1) if limit else 1000
    rows = job.results(status=status, follow=follow, page_rows=page_rows)
    if follow and limit is None and not printer.is_json:
        while screenful := list(itertools.islice(rows, _SCREENFUL)):
            print_job_rows(printer, screenful)
    else:
        print_job_rows(printer, itertools.islice(rows, limit))
    if follow:
        return  # whether there are more would have to be waited for
    if limit is not None and next(rows, None) is not None:
        printer.note("there are more: --limit N shows them, a pipe gets them all")
    elif not job.is_final:
        printer.note(f"the job is {job.status}: this is what has landed; --follow waits")


def errors(
    job_id: JobId,
    step: Step = None,
    code: Annotated[str | None, typer.Option(help="Only errors of this code.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """List the input lines that were rejected and the rows that failed.

    Lines count from 1, as editors count them; rows from 0, as in the results.
    """
    printer = Printer(output)
    with open_client(url, api_key) as client:
        job_id = whole_id(client, job_id)
        if is_run(job_id):
            run_errors(client, printer, job_id, step=step, code=code)
            return
        if step is not None:
            raise UsageProblem(f"--step is for runs of workflows (run_…), got {job_id}")
        _job_errors(printer, client.jobs.get(job_id), code)


def _job_errors(printer: Printer, job: Job, code: str | None) -> None:
    """Print all that went wrong in a pipe, as it comes; on a terminal, the first of it."""
    by_code = {**job.record.errors_by_code, REJECTED_LINE: job.counts.rejected}
    total = job.counts.failed + job.counts.rejected
    num_shown = 0
    if printer.is_json:
        for error in job.iter_errors(code=code):
            printer.json_line(error)
            num_shown += 1
    else:
        shown = job.errors(limit=_ERRORS_SHOWN, code=code)[:_ERRORS_SHOWN]
        num_shown = len(shown)
        if shown or code is None:
            print_job_errors(printer, shown)
        num_more = (total if code is None else by_code.get(code, 0)) - num_shown
        if num_shown == _ERRORS_SHOWN and num_more > 0:
            printer.note(f"… and {num_more:,} more: a pipe, or -o json, gets them all")
    if code is not None and not num_shown:
        counted_codes = {known: number for known, number in by_code.items() if number}
        known = f": {error_words(counted_codes)}" if counted_codes else ""
        printer.note(f"no error of the code {code!r}; {counted(total, 'error')} in all{known}")
    if code is None:
        tell_unparsed(printer, job.counts)
