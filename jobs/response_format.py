"""OpenAI's `response_format`: the form that an answer is to have. Knows no engine."""

from typing import Any

from ..engine.closed_schema import closed_schema
from ..engine.sampling_params import InvalidSampling
from ..engine.structured_outputs import check_schemas

_PARAM = "response_format"
_FIELDS = frozenset({"name", "description", "schema", "strict"})


def structured_outputs_of(response_format: Any) -> dict[str, Any] | None:
    """Translate it into `SamplingParams.structured_outputs`; None where any text will do.

    A schema always holds, `strict` or not, and objects hold no more than it names.

    Raises:
        InvalidSampling: it is not what it must be.
    """
    if response_format is None:
        return None
    if not isinstance(response_format, dict):
        raise InvalidSampling(_PARAM, "must be an object with a type")
    kind = response_format.get("type")
    fields = {"type", "json_schema"} if kind == "json_schema" else {"type"}
    for name in response_format:
        if name not in fields:
            raise InvalidSampling(_PARAM, f"of type {kind!r} has no field {str(name)[:40]!r}")
    match kind:
        case "text":
            return None
        case "json_object":
            return {"json_object": True}
        case "json_schema":
            return {"json": closed_schema(_schema(response_format.get("json_schema")))}
        case _:
            raise InvalidSampling(
                _PARAM, f"has type text, json_object or json_schema, got {str(kind)[:40]!r}"
            )


def _schema(json_schema: Any) -> dict[str, Any]:
    where = f"{_PARAM}.json_schema"
    if not isinstance(json_schema, dict):
        raise InvalidSampling(where, "must be an object with name and schema")
    for name in json_schema:
        if name not in _FIELDS:
            raise InvalidSampling(where, f"has no field {str(name)[:40]!r}")
    if not isinstance(json_schema.get("schema"), dict):
        raise InvalidSampling(f"{where}.schema", "must be a JSON Schema, an object")
    if not isinstance(json_schema.get("name", ""), str):
        raise InvalidSampling(f"{where}.name", "must be a string")
    if not isinstance(json_schema.get("strict"), bool | None):
        raise InvalidSampling(f"{where}.strict", "must be true or false")
    check_schemas(f"{where}.schema", json_schema["schema"])
    return json_schema["schema"]
