"""The verbs about workflows: run, validate, preview, plan, schema, runs.

Knows the client and how a file and its inputs are named; a watcher who leaves never harms the run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from .cli_client import open_client
from .cli_examples import example
from .cli_options import (
    ApiKey,
    Config,
    Data,
    Name,
    Output,
    Set,
    Url,
    UsageProblem,
    sampling_of,
    settings_and_sources,
)
from .cli_output import Printer
from .cli_runs import EXIT_CODES, EXIT_FAILED, exit_code, follow_run
from .cli_server import answers, running_server, server_for
from .cli_workflow_graph import graph
from .cli_workflow_output import (
    EXIT_USAGE,
    print_check,
    print_plan,
    print_preview,
    print_problems,
    print_rows,
    print_run,
    print_runs,
    problems_told,
    run_summary,
)
from .cli_workflow_store import delete, list_kept, save, show
from .client import Client
from .out_directory import bring_rows, check_writable
from .payloads import is_remote
from .workflow import Workflow
from .workflow_calls import RunOptions
from .workflow_client import WorkflowRun
from .workflow_here import check_here, require_packages
from .workflow_models import models_of
from .workflow_trial import trial_of

_NUM_SAMPLES = 5

workflow = typer.Typer(no_args_is_help=True, help="Workflows: steps over rows.")

File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="The workflow, as YAML or JSON.")
]
Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=PATH",
        help="Rows of an input: JSONL, CSV, Parquet or s3://…; NAME may be left out where there "
        "is one.",
    ),
]
Params: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="As in -p n=4; JSON, or a text."),
]
Here: TypeAlias = Annotated[
    bool, typer.Option("--here", help="Ask no server, even where one runs.")
]


@workflow.command(epilog=example("workflow run"))
def run(
    file: File,
    inputs: Inputs = None,
    params: Params = None,
    out: Annotated[
        str, typer.Option(help="What receives RUN/rows: a directory of this machine, or s3://…")
    ] = "out",
    name: Name = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides all chances.")] = 0,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Take answers of earlier runs.")
    ] = True,
    watch: Annotated[
        bool, typer.Option("--watch/--detach", help="Stay until the run has ended.")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="Do not take up an earlier run.")] = False,
    data: Data = None,
    config: Config = None,
    settings: Set = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Run a workflow to its end. Without a server, one is started for it on this machine.

    Given again, the same command goes on where it was: nothing is asked twice.
    """
    printer = Printer(output)
    spec = Workflow.load(file)
    values = sampling_of(params)
    rows = inputs_of(spec, inputs)
    require_inputs(spec, rows)
    models = models_of(spec.to_dict(), values)
    in_force, sources = settings_and_sources(
        config, settings, data=data, url=url, api_key=api_key, models=models or None
    )
    server_url = None if sources["url"] == "default" else in_force.url
    if server_url is None and not settings and sources["data"] == "default":
        server_url = running_server(printer, in_force, models)
    directory = None if is_remote(out) else Path(out).expanduser().absolute()
    if directory is not None:
        check_writable(directory)
    options = RunOptions(params=values, name=name, seed=seed, use_cache=cache)
    if directory is None:
        options["output"] = out
    elif server_url is None:
        options["output"] = directory  # a server elsewhere has directories of its own
    if not again:
        options["idempotency_key"] = _key_of(spec, rows, options)
    with (
        problems_told(printer),
        server_for(printer, in_force, server_url) as server,
        Client(server.url, in_force.api_key) as client,
    ):
        found = client.workflows.run(spec, rows, **options)
        if not watch and server.stack is None:
            print_run(printer, found.record)
            printer.note(f"penstock watch {found.id}  follows it")
            return
        if found.is_final:
            printer.note(f"{found.id} did this before; --again does it anew")
        else:
            server.wait_until_ready()
        follow_run(printer, found, server.how_to_return(found.id))
        _print_result(printer, found)
        if server.stack is not None:
            printer.note(f"{found.output_path}/rows/*.parquet, and each step's under steps/")
        elif directory is not None and found.status in EXIT_CODES and found.record.output_rows:
            path = directory / found.id / "rows" / "part-000000.parquet"
            bring_rows(found, path)
            printer.note(f"the rows are in {path}")
    raise typer.Exit(exit_code(found.record))


@workflow.command(epilog=example("workflow validate"))
def validate(
    file: File,
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
    spec = Workflow.load(file)
    rows, values = inputs_of(spec, inputs), sampling_of(params)
    settings, sources = settings_and_sources(None, None, url=url, api_key=api_key)
    if here or (sources["url"] == "default" and not answers(settings)):
        found = check_here(trial_of(spec, rows, values), settings.models)
    else:
        with problems_told(printer), Client(settings.url, settings.api_key) as client:
            found = client.workflows.validate(spec, rows, params=values)
    if not found["valid"]:
        print_problems(printer, found["errors"])
        raise typer.Exit(EXIT_USAGE)
    print_check(printer, found)


@workflow.command(epilog=example("workflow preview"))
def preview(
    file: File,
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
    given = inputs_of(spec, inputs)
    with problems_told(printer), open_client(url, api_key) as client:
        found = client.workflows.preview(spec, given, params=sampling_of(params), rows=rows)
    print_preview(printer, found)
    _exit_as(printer, found)


@workflow.command(epilog=example("workflow plan"))
def plan(
    file: File,
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
            help="What each model gives; by default the most that its workers have given.",
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
    with problems_told(printer), open_client(url, api_key) as client:
        found = client.workflows.plan(
            spec,
            inputs_of(spec, inputs),
            params=sampling_of(params),
            sample_rows=sample,
            num_rows=counts,
            tokens_per_s=rate,
        )
    print_plan(printer, found)
    _exit_as(printer, found)


@workflow.command(epilog=example("workflow schema"))
def schema(url: Url = None, api_key: ApiKey = None) -> None:
    """Print the JSON Schema of workflows, for editors; no server is needed."""
    settings, sources = settings_and_sources(None, None, url=url, api_key=api_key)
    if sources["url"] == "default" and not answers(settings):
        require_packages()
        from ..jobs.workflow.schema import workflow_schema  # not for the light client

        found = workflow_schema()
    else:
        with Client(settings.url, settings.api_key) as client:
            found = client.workflows.schema()
    typer.echo(json.dumps(found, indent=2))


@workflow.command(epilog=example("workflow runs"))
def runs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    after: Annotated[str | None, typer.Option(help="Go on behind this run.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """List runs, newest first."""
    with open_client(url, api_key) as client:
        found = client.workflows.list(limit=limit, after=after)
    print_runs(Printer(output), (each.record for each in found))


for name, verb in {
    "graph": graph,
    "save": save,
    "list": list_kept,
    "show": show,
    "delete": delete,
}.items():
    workflow.command(name, epilog=example(f"workflow {name}"))(verb)


def inputs_of(spec: Workflow, pairs: Sequence[str] | None) -> dict[str, str]:
    """Read NAME=PATH; a path alone is the only input's.

    Raises:
        UsageProblem: a name is unknown, or missing.
    """
    known = ", ".join(spec.inputs) or "none"
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, path = pair.partition("=")
        if not equals or (name not in spec.inputs and Path(pair).exists()):
            if len(spec.inputs) != 1:
                raise UsageProblem(f"expected NAME=PATH, got {pair!r}; inputs: {known}")
            name, path = spec.inputs[0], pair
        if name not in spec.inputs:
            raise UsageProblem(f"the workflow has no input {name!r}; inputs: {known}")
        found[name] = path
    return found


def require_inputs(spec: Workflow, given: Mapping[str, str]) -> None:
    """See that rows of every input are given.

    Raises:
        UsageProblem: they are not; the message is what to write.
    """
    if missing := [f"--input {name}=FILE" for name in spec.inputs if name not in given]:
        raise UsageProblem(f"rows are missing: say {' '.join(missing)}")


def counts_in(spec: Workflow, pairs: Sequence[str] | None) -> dict[str, int]:
    """Read NAME=N, how many rows inputs have; a number alone is the only input's.

    Raises:
        UsageProblem: a name is unknown or missing, or the number is none.
    """
    known = ", ".join(spec.inputs) or "none"
    found: dict[str, int] = {}
    for pair in pairs or ():
        name, _, count = pair.rpartition("=")
        if not name and len(spec.inputs) == 1:
            name = spec.inputs[0]
        if name not in spec.inputs:
            raise UsageProblem(f"--rows takes NAME=N, got {pair!r}; inputs: {known}")
        if not (count.isascii() and count.isdigit()):
            raise UsageProblem(f"--rows takes a whole number of rows, at least 0, got {pair!r}")
        found[name] = int(count)
    return found


def _print_result(printer: Printer, found: WorkflowRun) -> None:
    record = found.record
    if printer.is_json:
        printer.json_line(record.raw)
    elif record.output_rows:
        print_rows(
            printer, islice(found.results(follow=False, page_rows=_NUM_SAMPLES), _NUM_SAMPLES)
        )
    printer.note(run_summary(record))
    if record.error:
        printer.note(f"error: {record.error}")


def _exit_as(printer: Printer, found: Mapping[str, Any]) -> None:
    """Leave with the code that tells how a trial ended."""
    run = found["run"]
    if run["status"] not in EXIT_CODES:
        printer.note(f"{run['id']} {run['status']}: {run['error'] or 'no reason given'}")
        raise typer.Exit(EXIT_FAILED)


def _key_of(spec: Workflow, rows: Mapping[str, str], options: RunOptions) -> str:
    """Name a run by its workflow, the state of its inputs and everything said about it."""
    facts: list[Any] = [spec.to_dict(), {**options, "output": str(options.get("output"))}]
    for name, place in sorted(rows.items()):
        facts.append([name, place])
        if not is_remote(place) and (path := Path(place).expanduser()).exists():
            stat = path.stat()
            facts.append([str(path.absolute()), stat.st_size, stat.st_mtime_ns])
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    return f"workflow-{digest.hexdigest()}"
