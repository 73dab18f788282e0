"""The OpenAPI document says in words what everything means, for who reads it and not the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.api.app import create_app
from penstock.jobs.settings import Settings

MAX_SUMMARY = 100


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data: Path = tmp_path_factory.mktemp("words")
    return create_app(Settings(data=str(data), redis_url="redis://127.0.0.1:1/0")).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def forms(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All that has fields: the components, and the forms that uploads come in."""
    yield from document["components"]["schemas"].items()
    for name, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield name, content["schema"]


def test_every_field_is_described(document: dict[str, Any]) -> None:
    fields = [
        (f"{name}.{field}", told)
        for name, form in forms(document)
        for field, told in form.get("properties", {}).items()
    ]
    assert len(fields) > 500
    assert not [name for name, told in fields if not _is_sentence(told.get("description", ""))]


def test_every_object_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert not [name for name in schemas if not _is_sentence(schemas[name].get("description", ""))]


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    told = [
        (f"{name} {each['name']}", each.get("description", ""))
        for name, operation in operations(document)
        for each in operation.get("parameters", ())
    ]
    assert len(told) > 80
    assert not [name for name, text in told if not _is_sentence(text)]


def test_every_operation_is_summed_up(document: dict[str, Any]) -> None:
    summaries = [operation["summary"] for _, operation in operations(document)]
    for summary in summaries:
        assert len(summary.split()) > 1, summary
        assert len(summary) <= MAX_SUMMARY and not summary.endswith("."), summary
        assert summary[0].isupper() and not summary.istitle(), summary  # no function's name
    for name, operation in operations(document):
        assert operation["description"].startswith(operation["summary"].split("\n")[0][:20]), name
        assert "Raises:" not in operation["description"], name


def test_every_group_is_told_of(document: dict[str, Any]) -> None:
    used = {tag for _, operation in operations(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


def _is_sentence(text: str) -> bool:
    return len(text.split()) > 1 and text.strip().endswith((".", "…"))
