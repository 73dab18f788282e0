"""The OpenAPI document: what FastAPI reads off the routes, and what it cannot see there.

Bodies are read by hand here and answers are plain data, so FastAPI knows neither refusals nor
answers nor keys. They are added from the tables below. Knows operations by name, no service.
"""

from collections.abc import Iterator
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from . import (
    errors,
    openai_objects as openai,
    own_objects as own,
    page_objects as pages,
    stored_objects as stored,
)
from .auth import OPEN_PATHS
from .result_formats import MEDIA_TYPES
from .routes.files import MAX_LIFE_S, MIN_LIFE_S, Purpose

_JSON, _STREAM, _LINES = "application/json", "text/event-stream", "application/x-ndjson"
_BYTES, _FORM = "application/octet-stream", "multipart/form-data"
_COMPONENT = "#/components/schemas/"
_KEY = "bearer"

# What an operation answers, by its name; the status is what the route says.
_ANSWERS: dict[str, type[BaseModel]] = {
    "create_job": own.NewJob,
    "validate_job": own.JobValidation,
    "list_jobs": own.JobList,
    "get_job": own.Job,
    "change_job": own.Job,
    "delete_job": openai.Deleted,
    "cancel_job": own.Job,
    "pause_job": own.Job,
    "resume_job": own.Job,
    "retry_job": own.Job,
    "get_results": own.ResultPage,
    "get_errors": own.Listing,
    "get_timeline": pages.JobTimeline,
    "get_task": pages.JobTask,
    "get_graph": pages.RunGraph,
    "get_me": pages.Caller,
    "list_workflows": openai.Page,
    "delete_workflow": openai.Deleted,
    "get_runs": openai.Page,
    "get_run_results": own.ResultPage,
    "get_run_errors": own.Listing,
    "get_step_rows": own.ResultPage,
    "create_chat_completion": openai.ChatCompletion,
    "create_completion": openai.Completion,
    "create_response": openai.ModelResponse,
    "retrieve_response": openai.ModelResponse,
    "cancel_response": openai.ModelResponse,
    "delete_response": openai.Deleted,
    "create_embeddings": openai.EmbeddingList,
    "create_file": stored.File,
    "list_files": stored.FileList,
    "get_file": stored.File,
    "delete_file": openai.Deleted,
    "create_upload": stored.Upload,
    "add_part": stored.UploadPart,
    "complete_upload": stored.Upload,
    "cancel_upload": stored.Upload,
    "create_batch": stored.Batch,
    "list_batches": stored.BatchList,
    "get_batch": stored.Batch,
    "cancel_batch": stored.Batch,
    "create_endpoint": stored.NewWebhookEndpoint,
    "list_endpoints": stored.WebhookEndpointList,
    "get_endpoint": stored.WebhookEndpoint,
    "change_endpoint": stored.WebhookEndpoint,
    "rotate_secret": stored.NewWebhookEndpoint,
    "delete_endpoint": openai.Deleted,
    "try_endpoint": stored.WebhookTest,
    "list_event_types": stored.WebhookEventTypes,
    "list_deliveries": own.Deliveries,
    "list_models": openai.ModelList,
    "get_model": openai.Model,
    "create_key": own.NewApiKey,
    "list_keys": own.ApiKeyList,
    "revoke_key": own.ApiKey,
    "get_usage": own.Listing,
    "list_queues": own.Queues,
    "list_workers": own.Listing,
    "healthz": own.Health,
    "readyz": own.Readiness,
}

# Other forms in which answers may come: beside JSON, or, with None, in its place.
_FORMS: dict[str, tuple[str | None, ...]] = {
    "create_chat_completion": (_STREAM,),
    "create_completion": (_STREAM,),
    "create_response": (_STREAM,),
    "get_results": (_LINES, MEDIA_TYPES["arrow"], MEDIA_TYPES["parquet"]),
    "validate_job": (_LINES,),
    "get_run_results": (_LINES,),
    "get_step_rows": (_LINES,),
    "follow_events": (None, _STREAM),
    "follow_run_events": (None, _STREAM),
    "get_content": (None, _BYTES),
    "metrics": (None, "text/plain"),
}

# Bodies with a file in them: their fields, and which of those must be there.
_TEXT, _FILE = {"type": "string"}, {"type": "string", "format": "binary"}
_SCHEMA_OF = {
    **dict.fromkeys((_BYTES, MEDIA_TYPES["arrow"], MEDIA_TYPES["parquet"]), _FILE),
    _STREAM: {"$ref": f"{_COMPONENT}StreamEvent"},
}
_UPLOADS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "create_file": (
        {
            "purpose": {"enum": list(get_args(Purpose))},
            "expires_after[anchor]": {"const": "created_at"},
            "expires_after[seconds]": {
                "type": "integer",
                "minimum": MIN_LIFE_S,
                "maximum": MAX_LIFE_S,
            },
            "file": _FILE,
        },
        ["purpose", "file"],
    ),
    "add_part": ({"data": _FILE}, ["data"]),
    "create_job": ({"request": _TEXT, "file": _FILE}, ["request", "file"]),
    "validate_job": ({"request": _TEXT, "file": _FILE}, ["request", "file"]),
    "create_run": ({"request": _TEXT, "file": _FILE}, ["request", "file"]),
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


def operation_name(route: APIRoute) -> str:
    """Name an operation as its function is called."""
    return route.name


def describe(app: FastAPI) -> None:
    """Let an application tell all of this at /openapi.json; it is put together when asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    models = {openai.ErrorEnvelope, own.StreamEvent, *_ANSWERS.values()}
    _, said = models_json_schema(
        [(model, "serialization") for model in sorted(models, key=lambda each: each.__name__)],
        ref_template=_COMPONENT + "{model}",
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for never_used in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422
        schemas.pop(never_used, None)
    schemas.update(said["$defs"])
    for path, method, operation in _operations(document):
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


def _add_bodies(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Name the bodies, put their parts where references find them, and tell of uploads."""
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
    if name in _ANSWERS:
        answer["description"] = _first_line(_ANSWERS[name])
        answer["content"] = {_JSON: {"schema": {"$ref": _COMPONENT + _ANSWERS[name].__name__}}}
    for form in _FORMS.get(name, ()):
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
