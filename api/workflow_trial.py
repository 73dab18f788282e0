"""What is said of a workflow before it runs: its specification, first rows, and how many there are.

This reads files; whoever must not wait for a disk calls it in a thread.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .client_errors import InvalidInput
from .payloads import JobInput
from .workflow import Workflow
from .workflow_document import plain, plain_mapping
from .workflow_file import read_document
from .workflow_inputs import SAMPLED_ROWS, count_of, sample_of

AnyWorkflow: TypeAlias = Workflow | Mapping[str, Any] | Path | str
Inputs: TypeAlias = Mapping[str, JobInput]
AnyInputs: TypeAlias = Inputs | JobInput  # by name; or those of the only input, as they are
Specified: TypeAlias = dict[str, Any] | str  # a specification, or the name of one that is kept

_FILE_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def specified(workflow: AnyWorkflow) -> Specified:
    """Say a workflow as the server takes it: its specification, or a stored one's name.

    A text is the path of a file if it ends as one, in .yaml, .yml or .json, or has a slash.

    Raises:
        InvalidInput: a file cannot be read, or holds no mapping; what else is wrong, the server
            tells at once.
    """
    match workflow:
        case str() if "/" in workflow or Path(workflow).suffix.lower() in _FILE_SUFFIXES:
            return read_document(workflow)
        case str():
            return workflow
        case Workflow():
            return workflow.to_dict()
        case Path():
            return read_document(workflow)
        case Mapping():
            return plain_mapping(workflow, "the workflow")
    raise InvalidInput(f"a workflow is one, a file or a name, got {type(workflow).__name__}")


def input_names(workflow: Mapping[str, Any]) -> list[str]:
    """Name the inputs that a specification declares; none where it declares no mapping of them."""
    declared = workflow.get("inputs")
    return list(declared) if isinstance(declared, Mapping) else []


def only_input(workflow: Mapping[str, Any]) -> str:
    """Name the input that is meant where rows are given without a name.

    Raises:
        InvalidInput: there are several, or none.
    """
    names = input_names(workflow)
    if len(names) != 1:
        such_as = ", ".join(f"{name!r}: …" for name in names)
        takes = f"has the inputs {', '.join(names)}: name each" if names else "has no input"
        hint = f", as in {{{such_as}}}" if names else ": give {}"
        raise InvalidInput(f"the workflow {workflow.get('name')!r} {takes}{hint}")
    return names[0]


def check_names(workflow: Mapping[str, Any], inputs: Mapping[str, object]) -> None:
    """See that rows are given of inputs that there are.

    Raises:
        InvalidInput: there is no input of that name.
    """
    known = workflow.get("inputs") or {}
    if isinstance(known, Mapping) and (unknown := [name for name in inputs if name not in known]):
        names = ", ".join(map(str, known)) or "none"
        raise InvalidInput(f"the workflow has no input {unknown[0]!r:.80}; inputs: {names}")


def trial_of(
    workflow: AnyWorkflow,
    inputs: Inputs,
    params: Mapping[str, Any] | None,
    num_rows: int = SAMPLED_ROWS,
) -> dict[str, Any]:
    """Say a workflow with the first rows of its inputs, as the server takes it for a trial.

    Raises:
        InvalidInput: a file cannot be read.
    """
    return {
        "workflow": specified(workflow),
        "params": plain(params or {}, "params"),
        "inputs": {name: _sample(name, rows, num_rows) for name, rows in inputs.items()},
    }


def _sample(name: str, rows: JobInput, num_rows: int) -> dict[str, Any]:
    try:
        return sample_of(rows, num_rows)
    except InvalidInput as error:
        raise InvalidInput(f"input {name!r}: {error}") from error


def counts_of(inputs: Inputs, known: Mapping[str, int] | None) -> dict[str, int]:
    """Count the rows of each input, as far as that is easily told; what is known outranks it."""
    counted = {name: count_of(rows) for name, rows in inputs.items() if name not in (known or {})}
    return {name: count for name, count in counted.items() if count is not None} | dict(known or {})
