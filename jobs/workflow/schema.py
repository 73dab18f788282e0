"""The published JSON Schema of a specification, for editors and for programs that write one.

It says of the shape what `check_document` says; what fits together, only `check` knows.
"""

import inspect
from typing import Any

import msgspec

from .spec import Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def workflow_schema() -> dict[str, Any]:
    """Return the JSON Schema of a workflow, with what its author should know of each part."""
    schema = msgspec.json.schema(Workflow)
    for part in schema["$defs"].values():
        part["description"] = inspect.cleandoc(part["description"])
    return {"$schema": DIALECT, "title": "A Penstock workflow", **schema}
