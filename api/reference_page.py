"""The API reference as a page of Markdown, made from the OpenAPI document alone.

Knows how the page looks; what is on it stands in the routes, their bodies and their answers. What
is in a table: see `reference_tables`.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .reference_tables import COMPONENT, anchor, facts, table, type_of

_BODIES = ("application/json", "multipart/form-data")
_WIDTH = 100

_HEAD = """\
# API reference

Made from `/openapi.json` by `make docs`; a running server shows the same at `/docs`. Every refusal
is `{"error": {"message", "type", "param", "code"}}`, with an `x-request-id`; where trying again is
useless it says `x-should-retry: false`, and where it is not, `Retry-After` says when.

A key goes into `Authorization: Bearer …`. A server that has no keys asks for none. A field that a
body cannot have is refused, not ignored; a parameter of the query that is unknown is ignored.
"""


def reference(document: Mapping[str, Any]) -> str:
    """Render an OpenAPI document as Markdown."""
    schemas = document["components"]["schemas"]
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    asked = _referred(
        [each.get("requestBody") for item in document["paths"].values() for each in item.values()],
        schemas,
    )
    shown = _referred(document["paths"], schemas)
    blocks = [_HEAD, _contents(document["tags"])]
    for tag in document["tags"]:
        operations = by_tag[tag["name"]]
        blocks.append(f"## {tag['name'].capitalize()}\n")
        blocks.append(_prose(tag["description"][:1].upper() + tag["description"][1:]) + "\n")
        blocks.append(_overview(operations))
        blocks.extend(_operation(*each) for each in operations)
    blocks.append("## Objects\n")
    blocks.extend(
        _object(name, schemas[name], is_asked=name in asked) for name in sorted(shown | asked)
    )
    return "\n".join(blocks)


def _contents(tags: Sequence[Mapping[str, str]]) -> str:
    lines = [
        f"- [{tag['name'].capitalize()}](#{anchor(tag['name'])}): {tag['description']}"
        for tag in tags
    ]
    return "".join(f"{line}\n" for line in [*lines, "- [Objects](#objects)"])


def _referred(value: Any, schemas: Mapping[str, Any]) -> set[str]:
    """Name the schemas that something refers to, and those to which these refer in turn."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as members:
                name = str(members.get("$ref", "")).removeprefix(COMPONENT)
                if name in schemas and name not in found:
                    found.add(name)
                    waiting.append(schemas[name])
                waiting += members.values()
            case list() as items:
                waiting += items
    return found


def _overview(operations: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    rows = (
        (f"[`{method} {path}`](#{anchor(f'{method} {path}')})", f"{operation['summary']}.")
        for method, path, operation in operations
    )
    return table(("request", "what it does"), rows)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f"### {method} {path}\n"]
    parts += [_prose(each) + "\n" for each in operation["description"].split("\n\n")]
    parameters = [
        (
            f"`{each['name']}`",
            each["in"],
            *facts(
                each["schema"] | {"description": each.get("description", "")},
                needs_word=each.get("required", False) and each["in"] != "path",
            ),
        )
        for each in operation.get("parameters", ())
    ]
    if parameters:
        parts.append(table(("parameter", "in", "type", "what it says"), parameters))
    parts += _body(operation.get("requestBody", {}).get("content", {}))
    parts.append(_answers(operation["responses"]) + "\n")
    return "\n".join(parts)


def _body(content: Mapping[str, Any]) -> Iterator[str]:
    """Say what may be sent, each form of it, with an example."""
    kinds = [form for form in _BODIES if form in content]
    told = [f"{type_of(content[form]['schema'])} ({form.partition('/')[2]})" for form in kinds]
    if told:
        yield _prose(f"Body: {', or '.join(told)}.") + "\n"
    for form in kinds:
        if "properties" in content[form]["schema"]:
            yield f"The fields of the {form.partition('/')[2]}:\n"
            yield _fields(content[form]["schema"], is_asked=True)
        for example in content[form].get("examples", {}).values():
            shown = json.dumps(example["value"], indent=2, ensure_ascii=False)
            yield f"```json\n{shown}\n```\n"


def _answers(responses: Mapping[str, Any]) -> str:
    [good] = [status for status in responses if status.startswith("2")]
    forms = responses[good].get("content", {})
    said = [
        type_of(form["schema"])
        if kind == "application/json" and form.get("schema")
        else f"`{kind}`"
        for kind, form in forms.items()
    ]
    refusals = ", ".join(sorted(status for status in responses if not status.startswith("2")))
    return _prose(f"Answers {good}: {' or '.join(said) or 'JSON'}. Refusals: {refusals}.")


def _object(name: str, schema: Mapping[str, Any], *, is_asked: bool) -> str:
    parts = [f"### {name}\n"]
    parts += [_prose(each) + "\n" for each in schema.get("description", "").split("\n\n") if each]
    if "enum" in schema:
        parts.append(_prose(", ".join(f"`{value}`" for value in schema["enum"])) + "\n")
    if schema.get("properties"):
        parts.append(_fields(schema, is_asked=is_asked))
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any], *, is_asked: bool) -> str:
    """Tell of each field whether it must be there, or, in an answer, whether it may be missing."""
    required = schema.get("required", ())
    rows = []
    for field, told in schema["properties"].items():
        if is_asked:
            kind, words = facts(told, needs_word=field in required)
        else:  # its default is what clients may take it for, not what the server does
            kind, words = facts({**told, "default": None}, needs_word=False)
            words += "" if field in required else " May be left out."
        rows.append((f"`{field}`", kind, words))
    return table(("field", "type", "what it says"), rows)


def _prose(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False
    )
