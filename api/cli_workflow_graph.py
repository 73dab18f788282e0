"""The verb that draws a workflow: as text, or as Mermaid for a page. Asks no server."""

from enum import StrEnum
from typing import Annotated

import typer

from .cli_workflow_inputs import WorkflowFile
from .workflow import Workflow


class Drawing(StrEnum):
    """How a graph is drawn."""

    TREE = "tree"
    MERMAID = "mermaid"


def graph(
    file: WorkflowFile,
    drawing: Annotated[
        Drawing, typer.Option("--output", "-o", help="How to draw it.")
    ] = Drawing.TREE,
) -> None:
    """Draw the graph of a workflow: which step takes whose rows."""
    spec = Workflow.load(file)
    typer.echo(spec.to_mermaid() if drawing is Drawing.MERMAID else spec.to_tree())
