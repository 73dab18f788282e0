"""The verbs about workflows that the server keeps: save, list, show, delete. Knows no run."""

import time
from typing import Annotated, TypeAlias

import typer

from .cli_client import open_client
from .cli_options import ApiKey, Output, Url
from .cli_output import Printer
from .cli_workflow_inputs import WorkflowFile
from .cli_workflow_output import problems_told
from .workflow import Workflow

StoredName: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The name under which it is kept.")
]


def save(
    file: WorkflowFile,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Keep a workflow on the server under its name; a change becomes its next version."""
    printer = Printer(output)
    spec = Workflow.load(file)
    with problems_told(printer, file), open_client(url, api_key) as client:
        version = client.workflows.save(spec)
    if printer.is_json:
        printer.json_line({"name": spec.name, "version": version})
    printer.note(f"{spec.name} is kept, version {version}")


def list_kept(url: Url = None, api_key: ApiKey = None, output: Output = None) -> None:
    """List the workflows that the server keeps."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        found = client.workflows.saved()
    if printer.is_json:
        for each in found:
            printer.json_line(each)
        return
    if not found:
        printer.note("no workflow is kept; `penstock workflow save FILE` keeps one")
        return
    printer.table(
        ("name", "version", "steps", "saved", "description"),
        (
            (
                each["name"],
                each["version"],
                len(each["workflow"]["steps"]),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each["created_at"])),
                each["workflow"].get("description") or "",
            )
            for each in found
        ),
    )


def show(
    name: StoredName,
    version: Annotated[
        int | None, typer.Option(min=1, help="Which.", show_default="the newest")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Print a workflow that the server keeps, as YAML."""
    printer = Printer(output)
    with open_client(url, api_key) as client:
        found = client.workflows.load(name, version=version)
    if printer.is_json:
        printer.json_line(found.to_dict())
    else:
        typer.echo(found.to_yaml(), nl=False)


def delete(name: StoredName, url: Url = None, api_key: ApiKey = None) -> None:
    """Have the server forget a workflow with all its versions; its runs are left as they are."""
    with open_client(url, api_key) as client:
        client.workflows.forget(name)
    Printer(None).note(f"{name} is forgotten; its runs have a copy of their own")
