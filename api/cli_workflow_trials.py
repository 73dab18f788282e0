"""The verbs that try a workflow before it is run: validate, preview, plan. Knows the client."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from .cli_client import open_client
from .cli_exit import COMPLETE, EXIT_FAILED, EXIT_USAGE
from .cli_options import ApiKey, Here, Output, Url, sampling_of, settings_and_sources
from .cli_output import Printer
from .cli_server import answers
from .cli_trace_output import print_preview
from .cli_workflow_inputs import Inputs, Params, WorkflowFile, counts_in, inputs_of, inputs_to_check
from .cli_workflow_output import print_check, print_plan, print_problems, problems_told
from .client import Client
from .workflow import Workflow
from .workflow_file import read_document
from .workflow_here import check_here
from .workflow_trial import input_names, trial_of


def validate(
    file: WorkflowFile,
    inputs: Inputs = None,
    params: Params = None,
    here: Here = False,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Check a workflow, with the first rows of its inputs; all problems at once.

    Without a server it looks by itself, and cannot tell which models will be served.
    """
    printer = Printer(output)
    document = read_document(file)
    rows = inputs_to_check(printer, input_names(document), inputs)
    values = sampling_of(params)
    settings, sources = settings_and_sources(None, None, url=url, api_key=api_key)
    if here or (sources["url"] == "default" and not answers(settings)):
        found = check_here(trial_of(document, rows, values), settings.models)
    else:
        with problems_told(printer, file), Client(settings.url, settings.api_key) as client:
            found = client.workflows.validate(document, rows, params=values)
    if not found["valid"]:
        print_problems(printer, file, found["errors"])
        raise typer.Exit(EXIT_USAGE)
    print_check(printer, found)


def preview(
    file: WorkflowFile,
    inputs: Inputs = None,
    params: Params = None,
    rows: Annotated[int, typer.Option(min=1, max=100, help="How many of each input.")] = 3,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Send the first rows through every step, and print each prompt and what came of it."""
    printer = Printer(output)
    spec = Workflow.load(file)
    given = inputs_of(spec.inputs, inputs)
    with problems_told(printer, file), open_client(url, api_key) as client:
        found = client.workflows.preview(spec, given, params=sampling_of(params), rows=rows)
    print_preview(printer, found)
    _exit_as(printer, found)


def plan(
    file: WorkflowFile,
    inputs: Inputs = None,
    params: Params = None,
    sample: Annotated[
        int, typer.Option(min=1, max=100, help="Rows of each input that are tried.")
    ] = 16,
    num_rows: Annotated[
        list[str] | None,
        typer.Option(
            "--rows",
            metavar="NAME=N",
            help="How many rows an input will have; NAME may be left out where there is one.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="TOKENS_PER_S",
            help="What each model gives; by default what was measured here.",
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Estimate rows, tokens and time of each step from a sample."""
    printer = Printer(output)
    spec = Workflow.load(file)
    counts = counts_in(spec, num_rows)
    with problems_told(printer, file), open_client(url, api_key) as client:
        found = client.workflows.plan(
            spec,
            inputs_of(spec.inputs, inputs),
            params=sampling_of(params),
            sample_rows=sample,
            num_rows=counts,
            tokens_per_s=rate,
        )
    print_plan(printer, found)
    _exit_as(printer, found)


def _exit_as(printer: Printer, found: Mapping[str, Any]) -> None:
    """Leave with the code that tells how a trial ended."""
    run = found["run"]
    if run["status"] not in COMPLETE:
        printer.note(f"{run['id']} {run['status']}: {run['error'] or 'no reason given'}")
        raise typer.Exit(EXIT_FAILED)
