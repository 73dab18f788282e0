"""The verb run: one bulk job from its input to Parquet, wherever the server is.

Knows how to find or start a server, and that the same command, given again, goes on with the same
job. Works for people who have never heard of a server.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_chain import key_of_next, take_up
from .cli_exit import COMPLETE, exit_code
from .cli_flags import spread
from .cli_ids import JOB
from .cli_input import check_readable, input_file, is_piped
from .cli_job_output import print_job_rows, summary
from .cli_onlooker import leaving
from .cli_options import Again, Input, Output
from .cli_output import Printer
from .cli_server import Server, ServerFlags, server_for
from .cli_task import TaskFlags
from .cli_watch import follow_to_the_end, note_errors, note_rejected
from .client import Client, Job
from .client_errors import JobFailed, PenstockError
from .home_path import at_home
from .job_calls import SubmitOptions
from .model_check import check_model
from .out_directory import bring_rows, directory_of
from .payloads import is_remote
from .records import Row

_NUM_SAMPLES = 5


@spread
def run(
    rows: Input,
    task: TaskFlags,
    *,
    out: Annotated[
        str, typer.Option(help="What receives JOB/rows: a directory of this machine, or s3://…")
    ] = "out",
    again: Again = False,
    server_flags: ServerFlags,
    output: Output = None,
) -> None:
    """Run one bulk job to its end. Without a server, one is started for it on this machine.

    Given again, the same command goes on where it was: no landed row is computed twice.
    """
    printer = Printer(output)
    options = task.options()
    models = [task.model] if task.model else []
    check_readable(rows)
    directory = directory_of(out)
    in_force, server_url = server_flags.find(printer, models)
    if server_url is None:
        for model in in_force.models:
            check_model(model)
    if directory is None:
        options["output"] = out
    elif server_url is None:
        options["output"] = str(directory)  # a server elsewhere has directories of its own
    # What comes through a pipe comes once, so that no later command can be the same one.
    key = None if is_piped(rows) else _key_of(rows, options)
    with (
        leaving(printer, "stopped before the job had begun; the same command goes on from here"),
        input_file(rows, task.file_format) as path,
        server_for(printer, in_force, server_url) as server,
        Client(server.url, in_force.api_key) as client,
    ):
        job = _submit(client, path, options, key, server, again=again)
        note_rejected(printer, job.record)

        def how_to_return() -> str:
            return server.how_to_return(job.record, again=again)

        if job.is_final:
            printer.note(f"{job.id} did this before; --again does it anew")
        else:
            with leaving(printer, how_to_return):
                server.wait_until_ready(partial(_take_back, client, job))
        try:
            follow_to_the_end(printer, job, how_to_return, server.how_to_resume(printer))
        except JobFailed as error:
            printer.note(str(error))
        if directory is not None and server.stack is None and job.status in COMPLETE:
            brought = directory / job.id / "rows" / "part-000000.parquet"
            bring_rows(job, brought)
            printer.note(f"the rows are in {brought}")
        print_results(printer, job)
        note_errors(printer, job, server.how_to_see_errors(job.id))
        if server.stack is not None and _has_landed(job):
            printer.note(f"{job.output_path}/rows/*.parquet")
    raise typer.Exit(exit_code(job.status, job.counts.rejected))


def print_results(printer: Printer, job: Job) -> None:
    """Show the first rows, and how it went."""
    record = job.record
    if printer.is_json:
        printer.json_line(record.raw)
    elif record.counts.succeeded + record.counts.failed:
        print_job_rows(printer, first_rows(job))
    printer.note(summary(record))


def first_rows(job: Job) -> Iterator[Row]:
    """Yield the first few landed rows."""
    rows = job.results(follow=False, page_rows=_NUM_SAMPLES)
    for _, row in zip(range(_NUM_SAMPLES), rows, strict=False):
        yield row


def _submit(
    client: Client,
    rows: str,
    options: SubmitOptions,
    key: str | None,
    server: Server,
    *,
    again: bool,
) -> Job:
    """Take up what the same command has submitted; with `again`, submit what it takes up later."""

    def make(key: str | None) -> Job:
        options["idempotency_key"] = key
        return client.jobs.submit(rows, **options)

    def is_good(job: Job) -> bool:
        return job.status in COMPLETE and (server.stack is None or _has_landed(job))

    made_by = partial(server.made_by, kind=JOB)
    if key is None or (again and server.stack is None):
        return make(None)
    if again:
        return make(key_of_next(key, made_by))
    return take_up(key, make, is_good=is_good, made_by=made_by)


def _take_back(client: Client, job: Job) -> None:
    """Remove a job that no engine will ever begin; one of which rows have landed stays.

    It need not be gone: the trouble with the engine is what is to be told.
    """
    with suppress(PenstockError):
        counts = job.refresh().counts
        if not counts.succeeded + counts.failed:
            if not job.is_final:
                job.cancel()
            client.jobs.delete(job.id)


def _key_of(rows: str, options: SubmitOptions) -> str:
    """Name a run by its input's state and everything said about it; of an object, by its name."""
    facts: list[Any] = [rows, options]
    if not is_remote(rows):
        path = at_home(rows)
        stat = path.stat()
        facts = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, options]
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    return f"run-{digest.hexdigest()}"


def _has_landed(job: Job) -> bool:
    path = job.output_path
    return is_remote(path) or (path is not None and (Path(path) / "_SUCCESS").is_file())
