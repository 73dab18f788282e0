"""A workflow's file, read as plain data. Knows YAML and JSON, and no workflow."""

from pathlib import Path
from typing import Any

from .client_errors import InvalidInput
from .home_path import at_home
from .workflow_document import plain_mapping

_JSON_SUFFIX = ".json"


def read_document(path: str | Path) -> dict[str, Any]:
    """Read what a file of YAML or JSON says; whether that is a workflow, a check tells.

    Raises:
        InvalidInput: it cannot be read, or holds no mapping.
    """
    path = at_home(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error
    return plain_mapping(_parsed(path, data), str(path))


def _parsed(path: Path, data: bytes) -> Any:
    if path.suffix.lower() != _JSON_SUFFIX:
        from .workflow_yaml import read_yaml  # PyYAML is wanted by nobody else

        return read_yaml(data, source=str(path))
    from ..jobs.strict_json import NotJson, parse_json

    try:
        return parse_json(data)
    except NotJson as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from None
