"""The OpenAPI document: what FastAPI reads off the routes, and what it cannot see there.

Bodies are read by hand here and answers are plain data, so FastAPI knows neither refusals nor
answers nor keys. They are added from tables. Knows operations by name, no service.
"""

from collections.abc import Iterator
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from . import errors
from .auth import OPEN_PATHS
from .openapi_answers import ANSWERS, BESIDE, BYTES, FORMS, STREAM
from .openapi_examples import EXAMPLES
from .result_formats import MEDIA_TYPES
from .routes.files import MAX_LIFE_S, MIN_LIFE_S, Purpose

_JSON, _FORM = "application/json", "multipart/form-data"
_COMPONENT = "#/components/schemas/"
_KEY = "bearer"

# Bodies with a file in them: their fields, and which of those must be there.
_TEXT, _FILE = {"type": "string"}, {"type": "string", "format": "binary"}
_ROWS = (
    {
        "request": {**_TEXT, "description": "What would be the body in JSON, without the rows."},
        "file": {
            **_FILE,
            "description": "The rows, as JSON lines, CSV, TSV, Parquet or a JSON array.",
        },
    },
    ["request", "file"],
)
_SCHEMA_OF = {
    **dict.fromkeys((BYTES, MEDIA_TYPES["arrow"], MEDIA_TYPES["parquet"]), _FILE),
    STREAM: {"$ref": f"{_COMPONENT}StreamEvent"},
}
_UPLOADS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "create_file": (
        {
            "purpose": {
                "enum": list(get_args(Purpose)),
                "description": "What it is for; a batch takes files of purpose `batch`.",
            },
            "expires_after[anchor]": {
                "const": "created_at",
                "description": "From when on its time counts; there are no others.",
            },
            "expires_after[seconds]": {
                "type": "integer",
                "description": "How long it is kept; left out, for ever, or 30 days for a batch.",
                "minimum": MIN_LIFE_S,
                "maximum": MAX_LIFE_S,
            },
            "file": {**_FILE, "description": "The file; a job tells its format by its name."},
        },
        ["purpose", "file"],
    ),
    "add_part": ({"data": {**_FILE, "description": "The part's bytes, up to 64 MiB."}}, ["data"]),
    "create_job": _ROWS,
    "validate_job": _ROWS,
    "create_run": _ROWS,
}

# The groups, in the order in which people need them.
_GROUPS = {
    "jobs": "submit rows, follow them, and fetch what came of them.",
    "workflows": "steps of many kinds, each over the rows of the one before.",
    "generation": "one answer at once, as OpenAI's clients ask for it.",
    "files": "inputs and results, kept on the server.",
    "batches": "OpenAI's face of jobs.",
    "webhooks": "who is told when something ends.",
    "models": "what can be asked.",
    "queues": "what waits, and for whom.",
    "workers": "who is there, and how busy.",
    "usage": "what a tenant has used, and may use.",
    "keys": "who may do what.",
    "health": "whether all is well, for people and for programs.",
}

# What names a thing in a path, or a place in a stream, means the same wherever it stands.
_NAMES = {
    "job_id": "The job's id, as in `job_01K3…`.",
    "run_id": "The run's id, as in `run_01K3…`.",
    "step": "The step's id.",
    "name": "The workflow's name.",
    "file_id": "The file's id, as in `file-01K3…`.",
    "upload_id": "The upload's id, as in `upload_01K3…`.",
    "batch_id": "The batch's id, as in `batch_01K3…`.",
    "response_id": "The response's id, as in `resp_…`.",
    "endpoint_id": "The endpoint's id.",
    "key_id": "The key's id, which is not the key.",
    "model": "The model's id; it may hold slashes.",
    "last-event-id": "The `id` of the last event that was read: the stream goes on behind it.",
}

_EVERYWHERE = (errors.InvalidRequest, errors.ApiError, errors.Unavailable)
_WITH_A_KEY = (errors.InvalidKey, errors.NotAllowed, errors.TooManyRequests)
_WITH_A_BODY = (errors.BodyTooLarge, errors.UnsupportedMediaType)
_WRITING = (errors.Conflict, errors.OutOfStorage)
_AT_THE_DOOR = {  # before any route is found
    "408": "Nothing of the body came for too long.",
    "414": "The address is too long.",
    "431": "There are too many headers, or they are too long.",
}
_BY_NAME: dict[str, tuple[type[errors.ApiError], ...]] = {
    "list_jobs": (errors.NotFound,),  # `after` is no job
    "look_at_preview": (errors.Conflict,),  # the run is none
    "create_response": (errors.OutOfStorage,),  # one in the background is kept on disk
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """Put the document of an application together."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    models = {*BESIDE, *ANSWERS.values()}
    _, said = models_json_schema(
        [(model, "serialization") for model in sorted(models, key=lambda each: each.__name__)],
        ref_template=_COMPONENT + "{model}",
    )
    document["tags"] = [{"name": name, "description": told} for name, told in _GROUPS.items()]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for never_used in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422
        schemas.pop(never_used, None)
    schemas.update(said["$defs"])
    for path, method, operation in _operations(document):
        _add_words(operation)
        _add_bodies(operation, schemas)
        _add_answers(operation)
        _add_refusals(operation, path, method)
        operation["security"] = [] if path in OPEN_PATHS else [{_KEY: []}]
    document["components"]["securitySchemes"] = {
        _KEY: {
            "type": "http",
            "scheme": "bearer",
            "description": "A server with neither PENSTOCK_API_KEY nor keys asks nobody.",
        }
    }
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _add_words(operation: dict[str, Any]) -> None:
    """Sum an operation up in its first sentence; how Python raises is no client's business."""
    words = operation["description"].partition("\nRaises:")[0].strip()
    first = " ".join(words.partition("\n\n")[0].split())
    operation["description"] = words
    operation["summary"] = first.partition(". ")[0].removesuffix(".")
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in _NAMES:
            parameter.setdefault("description", _NAMES[parameter["name"]])


def _add_bodies(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Name the bodies, with their parts where references look; tell of uploads and examples."""
    name = operation["operationId"]
    if name in _UPLOADS:
        fields, required = _UPLOADS[name]
        form = {"type": "object", "properties": fields, "required": required}
        form["additionalProperties"] = False
        body = operation.setdefault("requestBody", {"required": True, "content": {}})
        body["content"][_FORM] = {"schema": form}
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        if media_type == _JSON and "title" in content["schema"]:
            schema = _with_components(content["schema"])
            for part, definition in schema.pop("$defs", {}).items():
                _define(schemas, part, definition)
            _define(schemas, schema["title"], schema)
            content["schema"] = {"$ref": _COMPONENT + schema["title"]}
            if name in EXAMPLES:
                content["examples"] = {name: {"value": EXAMPLES[name]}}


def _define(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    if schemas.setdefault(name, schema) != schema:
        raise ValueError(f"two schemas are called {name}; rename one of the two classes")


def _with_components(value: Any) -> Any:
    """Return a schema whose references look for its parts among the components."""
    if isinstance(value, dict):
        return {name: _with_components(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_components(item) for item in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return _COMPONENT + value.removeprefix("#/$defs/")
    return value


def _add_answers(operation: dict[str, Any]) -> None:
    """Say what a success looks like."""
    name = operation["operationId"]
    [status] = [status for status in operation["responses"] if status.startswith("2")]
    answer = operation["responses"][status]
    if name in ANSWERS:
        answer["description"] = _first_line(ANSWERS[name])
        answer["content"] = {_JSON: {"schema": {"$ref": _COMPONENT + ANSWERS[name].__name__}}}
    for form in FORMS.get(name, ()):
        if form is None:
            answer["content"] = {}
        else:
            answer["content"][form] = {"schema": _SCHEMA_OF.get(form, _TEXT)}


def _add_refusals(operation: dict[str, Any], path: str, method: str) -> None:
    """Say which refusals may come, all in the one envelope."""
    kinds = {*_EVERYWHERE, *_BY_NAME.get(operation["operationId"], ())}
    has_body = "requestBody" in operation
    if path not in OPEN_PATHS:
        kinds.update(_WITH_A_KEY)
    if has_body:
        kinds.update(_WITH_A_BODY)
    if has_body or "{" in path:
        kinds.add(errors.NotFound)
    if method != "get" and "generation" not in operation.get("tags", ()):
        kinds.update(_WRITING)
    if "{job_id}" in path:
        kinds.add(errors.JobGone)
    responses = operation["responses"]
    responses.pop("422", None)
    told = {str(kind.status): _first_line(kind) for kind in kinds} | _AT_THE_DOOR
    for status, description in sorted(told.items()):
        responses[status] = {
            "description": description,
            "content": {_JSON: {"schema": {"$ref": _COMPONENT + "ErrorEnvelope"}}},
        }


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]
