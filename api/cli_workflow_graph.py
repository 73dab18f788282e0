"""The verb that draws a workflow: as text, or as Mermaid for a page. Asks no server."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .workflow import Workflow


class Drawing(StrEnum):
    """How a graph is drawn."""

    TREE = "tree"
    MERMAID = "mermaid"


def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workflow, as YAML or JSON.")],
    drawing: Annotated[
        Drawing, typer.Option("--output", "-o", help="How to draw it.")
    ] = Drawing.TREE,
) -> None:
    """Draw the graph of a workflow: which step takes whose rows."""
    spec = Workflow.load(file)
    typer.echo(spec.to_mermaid() if drawing is Drawing.MERMAID else spec.to_tree())
