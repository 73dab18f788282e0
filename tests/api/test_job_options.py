"""What is said about a job, as it leaves the client, and what is refused before anything does."""

import inspect
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock import SamplingParams
from penstock.api.job_calls import SubmitOptions

from .scripted import connect, job_json, parts_of, payload, script


def body_of(**options: Any) -> dict[str, Any]:
    handler, calls = script(httpx2.Response(202, json=job_json()))
    connect(handler).jobs.submit([{"a": 1}], **options)
    return json.loads(payload(parts_of(calls[0])["request"]))


def test_values_of_the_package_and_of_python_are_sent() -> None:
    params = SamplingParams(temperature=0, max_tokens=8)
    sampling = body_of(sampling=params)["sampling"]
    assert SamplingParams.from_mapping(sampling) == params
    assert None not in sampling.values()
    assert body_of(deadline=timedelta(hours=1))["deadline"] == 3600
    assert body_of(metadata={"a": date(2024, 1, 2)})["metadata"] == {"a": "2024-01-02"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompt": lambda row: row}, "prompt cannot be sent as JSON: a function has no form"),
        ({"metadata": {"a": object()}}, "metadata cannot be sent as JSON: a object"),
        ({"max_error_rate": float("nan")}, "max_error_rate cannot be sent"),
        ({"temperature": 0}, r"'temperature' is about sampling; say sampling=\{'temperature': 0\}"),
        ({"promt": "x"}, "unknown option 'promt' for a job; there are model, prompt"),
    ],
)
def test_what_cannot_be_said_names_its_option(options: dict[str, Any], says: str) -> None:
    handler, calls = script()
    with pytest.raises(TypeError, match=says):
        connect(handler).jobs.submit([{"a": 1}], **options)
    assert calls == []


def test_a_change_is_said_like_a_job() -> None:
    handler, calls = script(httpx2.Response(200, json=job_json()))
    connect(handler).jobs.update("job_1", deadline=timedelta(minutes=1))
    assert json.loads(calls[0].content) == {"deadline": 60}


def test_help_tells_every_option() -> None:
    told = inspect.getdoc(SubmitOptions) or ""
    for name in SubmitOptions.__annotations__:
        assert f"\n    {name}: " in told


def test_the_guide_tells_every_option() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    table = guide.partition("## How a job is written")[2].partition("## What lands")[0]
    for name in SubmitOptions.__annotations__:
        assert f"| `{name}` |" in table
