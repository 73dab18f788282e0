"""The verbs about runs: workflow run, and the list of runs. Knows the client.

A watcher who leaves never harms the run.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Annotated, Any

import typer

from .cli_chain import key_of_next, take_up
from .cli_client import open_client
from .cli_exit import COMPLETE, exit_code
from .cli_flags import spread
from .cli_ids import RUN, whole_id
from .cli_input import check_readable
from .cli_onlooker import leaving
from .cli_options import Again, ApiKey, Limit, Name, Output, Url, sampling_of
from .cli_output import Printer
from .cli_runs import follow_run
from .cli_runs_output import print_rows, print_run, print_runs, run_summary
from .cli_server import Server, ServerFlags, server_for
from .cli_workflow_inputs import Inputs, Params, WorkflowFile, inputs_of, require_inputs
from .cli_workflow_output import problems_told
from .client import Client
from .client_errors import PenstockError
from .home_path import at_home
from .model_check import check_model
from .out_directory import bring_rows, directory_of
from .payloads import is_remote
from .run_calls import RunOptions
from .workflow import Workflow
from .workflow_models import models_of
from .workflow_run import WorkflowRun

_NUM_SAMPLES = 5


@spread
def run(
    file: WorkflowFile,
    *,
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
    again: Again = False,
    server_flags: ServerFlags,
    output: Output = None,
) -> None:
    """Run a workflow to its end. Without a server, one is started for it on this machine.

    Given again, the same command goes on where it was: nothing is asked twice.
    """
    printer = Printer(output)
    spec = Workflow.load(file)
    values = sampling_of(params)
    rows = inputs_of(spec.inputs, inputs)
    require_inputs(spec, rows)
    for place in rows.values():
        check_readable(place)
    directory = directory_of(out)
    in_force, server_url = server_flags.find(printer, models_of(spec.to_dict(), values))
    if server_url is None:
        for model in in_force.models:
            check_model(model)
    options = RunOptions(params=values, name=name, seed=seed, use_cache=cache)
    if directory is None:
        options["output"] = out
    elif server_url is None:
        options["output"] = directory  # a server elsewhere has directories of its own
    key = _key_of(spec, rows, options)
    with (
        problems_told(printer, file),
        server_for(printer, in_force, server_url) as server,
        Client(server.url, in_force.api_key) as client,
    ):
        found = _start(client, spec, rows, options, key, server, again=again)
        if not watch and server.stack is None:
            print_run(printer, found.record)
            printer.note(f"penstock watch {found.id}  follows it")
            return

        def how_to_return() -> str:
            return server.how_to_return(found.record, again=again)

        if found.is_final:
            printer.note(f"{found.id} did this before; --again does it anew")
        else:
            with leaving(printer, how_to_return):
                server.wait_until_ready(partial(_take_back, client, found))
        follow_run(printer, found, how_to_return, server.how_to_resume(printer))
        _print_result(printer, found)
        if server.stack is not None:
            printer.note(f"{found.output_path}/rows/*.parquet, and each step's under steps/")
        elif directory is not None and found.status in COMPLETE and found.record.output_rows:
            path = directory / found.id / "rows" / "part-000000.parquet"
            bring_rows(found, path)
            printer.note(f"the rows are in {path}")
    raise typer.Exit(exit_code(found.status, found.record.rejected))


def runs(
    limit: Limit = 20,
    after: Annotated[str | None, typer.Option(help="Go on behind this run.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """List runs, newest first."""
    with open_client(url, api_key) as client:
        after = None if after is None else whole_id(client, after, RUN)
        found = client.workflows.list(limit=limit, after=after)
    print_runs(Printer(output), (each.record for each in found))


def _start(
    client: Client,
    spec: Workflow,
    rows: Mapping[str, str],
    options: RunOptions,
    key: str,
    server: Server,
    *,
    again: bool,
) -> WorkflowRun:
    """Take up what the same command has started; with `again`, start what it takes up later."""

    def make(key: str | None) -> WorkflowRun:
        options["idempotency_key"] = key
        return client.workflows.run(spec, rows, **options)

    made_by = partial(server.made_by, kind=RUN)
    if again:
        return make(None if server.stack is None else key_of_next(key, made_by))
    return take_up(key, make, is_good=lambda run: run.status in COMPLETE, made_by=made_by)


def _take_back(client: Client, run: WorkflowRun) -> None:
    """Remove a run that no engine will ever begin; one whose steps have made rows stays.

    It need not be gone: the trouble with the engine is what is to be told.
    """
    with suppress(PenstockError):
        if not any(step.rows_out for step in run.refresh().record.steps):
            if not run.is_final:
                run.cancel()
            client.workflows.delete(run.id)


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


def _key_of(spec: Workflow, rows: Mapping[str, str], options: RunOptions) -> str:
    """Name a run by its workflow, the state of its inputs and everything said about it."""
    facts: list[Any] = [spec.to_dict(), {**options, "output": str(options.get("output"))}]
    for name, place in sorted(rows.items()):
        facts.append([name, place])
        if not is_remote(place) and (path := at_home(place)).exists():
            stat = path.stat()
            facts.append([str(path.absolute()), stat.st_size, stat.st_mtime_ns])
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    return f"workflow-{digest.hexdigest()}"
