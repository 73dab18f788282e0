"""A schema that no answer can follow is refused before any row is run."""

from typing import Any

import pytest

from penstock.engine.sampling_params import InvalidSampling
from penstock.jobs.model import TaskSpec
from penstock.jobs.schema_words import check_words
from penstock.jobs.submit_request import SubmitRequest, check_request


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nonsense"}, "type must be one of string, .*, got 'nonsense'$"),
        ({"properties": {"a": {"type": "strin"}}}, "properties.a.type .* did you mean 'string'"),
        ({"type": ["string", 5]}, "got '5'"),
        ({"anyOf": [{}, {"type": "str"}]}, r"anyOf\[1\].type must be"),
        ({"properties": []}, "properties must be an object"),
        ({"properties": {"a": 5}}, "properties.a must be a schema, got '5'"),
        ({"required": "a"}, "required must be a list"),
        ({"enum": []}, "enum must name at least one value"),
        ({"items": {"type": "u"}}, "items.type must be"),
    ],
)
def test_what_is_no_schema_is_told_with_its_place(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSampling, match=says) as caught:
        check_words("response_format", schema)
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["string", "null"]},
        {"properties": {"type": {"enum": [1]}}, "required": ["type"]},
        {"items": [{"type": "string"}], "additionalProperties": False},
        {"$ref": "#/$defs/a", "$defs": {"a": {"oneOf": [True, {"type": "array"}]}}},
    ],
)
def test_what_is_a_schema_passes(schema: dict[str, Any]) -> None:
    check_words("response_format", schema)


FORM = {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}


@pytest.mark.parametrize(
    ("task", "param"),
    [
        (TaskSpec("m", "p", response_format=FORM), "response_format"),
        (
            TaskSpec("m", "p", sampling={"structured_outputs": {"json": {"type": "nonsense"}}}),
            "structured_outputs",
        ),
    ],
)
def test_a_whole_job_of_it_is_refused(task: TaskSpec, param: str) -> None:
    with pytest.raises(InvalidSampling, match="nonsense") as caught:
        check_request(SubmitRequest(task))
    assert caught.value.param == param
