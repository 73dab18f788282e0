"""The verb diff: two jobs, or two runs of workflows, row by row. Knows the client.

It leaves with 0 where no row differs and with 4 where some do: 1, which diff(1) would say, means
trouble here, and 4 that something ended otherwise than one would wish, as after `watch`.
"""

from typing import Annotated

import typer

from . import known_names
from .cli_client import open_client
from .cli_diff_output import change_object, print_changes, print_sums
from .cli_exit import EXIT_WITH_ERRORS
from .cli_ids import is_run, whole_id
from .cli_options import ApiKey, Output, Url
from .cli_output import Printer
from .client import Client
from .job import Job
from .job_diff import On, diff_of
from .row_metrics import Metric
from .workflow_run import WorkflowRun


def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A job, or a run of a workflow.",
            autocompletion=known_names.jobs_and_runs,
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="Another one, which came later.",
            autocompletion=known_names.jobs_and_runs,
        ),
    ],
    on: Annotated[
        On | None,
        typer.Option(
            help="Pair rows by their place in the input, or by the id that --id gave them.",
            show_default="row_index of jobs, id of runs",
        ),
    ] = None,
    metric: Annotated[
        Metric,
        typer.Option(
            help="When two values are the same: exact; normalized overlooks case and spaces; json "
            "compares documents; similarity is difflib's ratio."
        ),
    ] = Metric.EXACT,
    at_least: Annotated[
        float,
        typer.Option("--at-least", min=0, max=1, help="The similarity that counts as the same."),
    ] = 0.9,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Which columns are compared, comma-separated.",
            show_default="output; of runs, all",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many rows a table shows.")] = 10,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Compare two jobs, or two runs of workflows, row by row. 4 says that rows differ.

    A table ends with the sums of both; a pipe gets each row that differs, and the sums at the end.
    """
    printer = Printer(output)
    with open_client(url, api_key) as client:
        a, b = whole_id(client, a), whole_id(client, b)
        sides = [_find(client, printer, each) for each in (a, b)]
        found = diff_of(
            *sides,
            on=on,
            metric=metric,
            at_least=at_least,
            columns=[each.strip() for each in (columns or "").split(",") if each.strip()],
        )
        if printer.is_json:
            for change in found:
                printer.json_line(change_object(change))
            printer.json_line({"object": "diff.summary", "a_id": a, "b_id": b, **found.to_json()})
        else:
            print_changes(printer, found, limit)
            print_sums(printer, found, [side.record for side in sides])
    raise typer.Exit(0 if found.is_same else EXIT_WITH_ERRORS)


def _find(client: Client, printer: Printer, subject_id: str) -> Job | WorkflowRun:
    found = client.workflows.get(subject_id) if is_run(subject_id) else client.jobs.get(subject_id)
    if not found.is_final:
        printer.note(f"{subject_id} is {found.status}: what has landed is compared")
    return found
