"""Checks a workflow where no server is: in a process of our own, which its templates may exhaust.

Knows no model that is served. As a program it reads a trial from stdin, as POST
/v1/workflows/validate takes it, and writes what was found to stdout.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import IO, Any

from .client_errors import MissingPackage, PenstockError
from .workflow_models import with_model

MAX_MEMORY_BYTES = 4 << 30
MAX_CHECK_S = 60.0
_NEEDED = ("msgspec", "jinja2", "pyarrow")


def check_here(trial: Mapping[str, Any], models: tuple[str, ...]) -> dict[str, Any]:
    """Check a workflow with the first rows of its inputs; the answer is that of a server.

    A workflow that cannot run is not `valid`, and `errors` lists all problems. A step that names no
    model asks the one of `models`, if there is just one.

    Raises:
        MissingPackage: the packages for that are not installed.
        PenstockError: the check took too long, or more memory than it may.
    """
    require_packages()
    said = {**trial, "workflow": with_model(trial["workflow"], models)}
    command = [sys.executable, "-P", "-m", __name__, str(os.getpid())]
    try:
        made = subprocess.run(
            command, input=json.dumps(said).encode(), capture_output=True, timeout=MAX_CHECK_S
        )
    except subprocess.TimeoutExpired:
        raise PenstockError(f"the workflow was not checked after {MAX_CHECK_S:g} s") from None
    if made.returncode:
        last = made.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise PenstockError(f"the workflow could not be checked: {last or 'it takes too much'}")
    return json.loads(made.stdout)


def require_packages() -> None:
    """See that what a server is made of is installed here.

    Raises:
        MissingPackage: it is not.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingPackage(
            f"no server answers, and without {', '.join(missing)} none of this can be done here: "
            "pip install 'penstock[server]', or name a server with --url"
        )


def _check(trial: Mapping[str, Any]) -> dict[str, Any]:
    # Here alone: the other end is a light client.
    from ..jobs.columns import ColumnTypes
    from ..jobs.workflow.checks.check import InvalidWorkflow, check_document
    from .workflow_check import check_object

    columns: dict[str, Any] = {}
    for name, dataset in trial["inputs"].items():
        if "rows" in dataset:  # what lies elsewhere, a server reads
            types = ColumnTypes()
            for row in dataset["rows"]:
                types.add(row)
            columns[name] = {column: kind.value for column, kind in types.settled().items()}
    try:
        return check_object(check_document(trial["workflow"], trial["params"], columns), None)
    except InvalidWorkflow as error:
        errors = [{"param": each.where, "message": each.message} for each in error.problems]
        return {"object": "workflow.check", "valid": False, "errors": errors}


def _serve(trials: IO[str], answers: IO[str]) -> None:
    json.dump(_check(json.load(trials)), answers)


if __name__ == "__main__":
    from ..jobs.parent_death import die_with_parent

    die_with_parent(int(sys.argv[1]), signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(sys.stdin, sys.stdout)
