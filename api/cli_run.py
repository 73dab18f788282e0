"""The verb run: one bulk job from its input to Parquet, wherever the server is.

Knows how to find or start a server, and that the same command, given again, goes on with the same
job. Works for people who have never heard of a server.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..jobs.model import JobState
from .cli_input import input_file, is_piped
from .cli_jobs import exit_code, follow_to_the_end, leaving, note_errors, note_rejected
from .cli_options import (
    ApiKey,
    Config,
    Data,
    Format,
    IdColumn,
    Input,
    Model,
    Name,
    Output,
    Prompt,
    Raw,
    Sampling,
    Schema,
    Set,
    System,
    Url,
    settings_and_sources,
    task_options,
)
from .cli_output import Printer, summary
from .cli_server import Server, running_server, server_for
from .client import Client, Job
from .client_errors import InvalidInput, JobFailed
from .job_calls import SubmitOptions
from .out_directory import bring_rows, check_writable
from .payloads import is_remote
from .records import Row

_NUM_SAMPLES = 5
_COMPLETE = (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS)


def run(
    rows: Input,
    prompt: Prompt = None,
    model: Model = None,
    out: Annotated[
        str, typer.Option(help="What receives JOB/rows: a directory of this machine, or s3://…")
    ] = "out",
    system: System = None,
    sampling: Sampling = None,
    schema: Schema = None,
    id_column: IdColumn = None,
    name: Name = None,
    raw: Raw = False,
    file_format: Format = None,
    again: Annotated[bool, typer.Option("--again", help="Do not take up an earlier run.")] = False,
    data: Data = None,
    config: Config = None,
    settings: Set = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Run one bulk job to its end. Without a server, one is started for it on this machine.

    Given again, the same command goes on where it was: no landed row is computed twice.
    """
    printer = Printer(output)
    options = SubmitOptions(
        **task_options(prompt, system, sampling, raw, schema),
        model=model,
        id=id_column,
        name=name,
        format=file_format,
    )
    in_force, sources = settings_and_sources(
        config, settings, data=data, url=url, api_key=api_key, models=[model] if model else None
    )
    directory = None if is_remote(out) else Path(out).expanduser().absolute()
    piped = is_piped(rows)  # which comes once, so that no later command can be the same one
    if not is_remote(rows) and not piped:
        _check_readable(Path(rows))
    if directory is not None:
        check_writable(directory)
    server_url = None if sources["url"] == "default" else in_force.url
    if server_url is None and not settings and sources["data"] == "default":
        server_url = running_server(printer, in_force, [model] if model else [])
    if directory is None:
        options["output"] = out
    elif server_url is None:
        options["output"] = str(directory)  # a server elsewhere has directories of its own
    key = None if again or piped else _key_of(rows, options)
    with (
        leaving(printer, "stopped before the job had begun; the same command goes on from here"),
        input_file(rows, file_format) as path,
        server_for(printer, in_force, server_url) as server,
        Client(server.url, in_force.api_key) as client,
    ):
        job = _submit(client, path, options, key, server)
        note_rejected(printer, job.record)
        if job.is_final:
            printer.note(f"{job.id} did this before; --again does it anew")
        else:
            with leaving(printer, server.how_to_return(job.id)):
                server.wait_until_ready()
        try:
            follow_to_the_end(printer, job, server.how_to_return(job.id))
        except JobFailed as error:
            printer.note(str(error))
        if directory is not None and server.stack is None and job.status in _COMPLETE:
            brought = directory / job.id / "rows" / "part-000000.parquet"
            bring_rows(job, brought)
            printer.note(f"the rows are in {brought}")
        print_results(printer, job)
        note_errors(printer, job, server.how_to_see_errors(job.id))
        if server.stack is not None and _has_landed(job):
            printer.note(f"{job.output_path}/rows/*.parquet")
    raise typer.Exit(exit_code(job.record))


def print_results(printer: Printer, job: Job) -> None:
    """Show the first rows, and how it went."""
    record = job.record
    if printer.is_json:
        printer.json_line(record.raw)
    elif record.counts.succeeded + record.counts.failed:
        printer.rows(first_rows(job))
    printer.note(summary(record))


def first_rows(job: Job) -> Iterator[Row]:
    """Yield the first few landed rows."""
    rows = job.results(follow=False, page_rows=_NUM_SAMPLES)
    for _, row in zip(range(_NUM_SAMPLES), rows, strict=False):
        yield row


def _submit(
    client: Client, rows: str, options: SubmitOptions, key: str | None, server: Server
) -> Job:
    """Submit under the key; each job that came to nothing hands it on, so that a chain forms.

    The same command finds the end of the chain again, whatever became of those before.
    """
    while True:
        options["idempotency_key"] = key
        job = client.jobs.submit(rows, **options)
        is_good = job.status in _COMPLETE and (server.stack is None or _has_landed(job))
        if is_good or not job.is_final or key is None:
            return job
        key = f"run-after-{job.id}"


def _check_readable(path: Path) -> None:
    """Open the input once, before anything is started for it.

    Raises:
        InvalidInput: there is no such file, or it cannot be opened.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error


def _key_of(rows: str, options: SubmitOptions) -> str:
    """Name a run by its input's state and everything said about it; of an object, by its name."""
    facts: list[Any] = [rows, options]
    if not is_remote(rows):
        path = Path(rows)
        stat = path.stat()
        facts = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, options]
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    return f"run-{digest.hexdigest()}"


def _has_landed(job: Job) -> bool:
    path = job.output_path
    return is_remote(path) or (path is not None and (Path(path) / "_SUCCESS").is_file())
