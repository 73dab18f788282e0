"""The group of verbs about workflows: which there are. Knows none of them from inside."""

import typer

from .cli_examples import example
from .cli_workflow_graph import graph
from .cli_workflow_run import run, runs
from .cli_workflow_schema import schema
from .cli_workflow_store import delete, list_kept, save, show
from .cli_workflow_trials import plan, preview, validate


def workflow_verbs() -> typer.Typer:
    """Put the verbs together."""
    group = typer.Typer(no_args_is_help=True, help="Workflows: steps over rows.")
    for name, verb in {
        "run": run,
        "validate": validate,
        "preview": preview,
        "plan": plan,
        "schema": schema,
        "runs": runs,
        "graph": graph,
        "save": save,
        "list": list_kept,
        "show": show,
        "delete": delete,
    }.items():
        group.command(name, epilog=example(f"workflow {name}"))(verb)
    return group
