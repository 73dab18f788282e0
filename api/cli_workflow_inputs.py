"""What a command line says about a workflow: its file, the rows of its inputs, its parameters.

Knows how each is spelled and read; what a workflow does with them is the server's to know.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from .cli_options import UsageProblem
from .cli_output import Printer
from .workflow import Workflow

WorkflowFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="The workflow, as YAML or JSON.")
]
Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=PATH",
        help="Rows of an input: JSONL, CSV, TSV, Parquet, a JSON array or s3://…; NAME may be "
        "left out where there is one.",
    ),
]
Params: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="As in -p n=4; JSON, or a text."),
]


def inputs_of(declared: Sequence[str], pairs: Sequence[str] | None) -> dict[str, str]:
    """Read NAME=PATH, of inputs that a workflow declares; a path alone is the only one's.

    Raises:
        UsageProblem: a name is unknown, missing, or given twice.
    """
    known = ", ".join(declared) or "none"
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, path = pair.partition("=")
        if not equals or (name not in declared and Path(pair).exists()):
            if len(declared) != 1:
                raise UsageProblem(f"expected NAME=PATH, got {pair!r}; inputs: {known}")
            name, path = declared[0], pair
        if name not in declared:
            raise UsageProblem(f"the workflow has no input {name!r}; inputs: {known}")
        if name in found:
            raise UsageProblem(f"input {name!r} is given twice: {found[name]} and {path}")
        found[name] = path
    return found


def inputs_to_check(
    printer: Printer, declared: Sequence[str], pairs: Sequence[str] | None
) -> dict[str, str]:
    """Read NAME=PATH; of a workflow that declares no input, that is the check's to tell.

    Raises:
        UsageProblem: a name is unknown, or missing.
    """
    if declared or not pairs:
        return inputs_of(declared, pairs)
    printer.note(f"not looked at, as the workflow declares no input: {', '.join(pairs)}")
    return {}


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
