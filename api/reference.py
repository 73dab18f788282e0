"""The API reference as a page of Markdown, made from the OpenAPI document alone.

    python -m penstock.api.reference > docs/api.md

Knows how the page looks; what is on it stands in the routes, their bodies and their answers.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COMPONENT = "#/components/schemas/"
_BODIES = ("application/json", "multipart/form-data")

_HEAD = """\
# API reference

Made from `/openapi.json` by `make docs`; a running server shows the same at `/docs`. Every refusal
is `{"error": {"message", "type", "param", "code"}}`, with an `x-request-id`; where trying again is
useless it says `x-should-retry: false`, and where it is not, `Retry-After` says when.

A key goes into `Authorization: Bearer …`. A server that has no keys asks for none.
"""


def reference(document: Mapping[str, Any]) -> str:
    """Render an OpenAPI document as Markdown."""
    schemas = document["components"]["schemas"]
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    blocks = [_HEAD]
    for tag, operations in by_tag.items():
        blocks.append(f"## {tag.capitalize()}\n")
        blocks.append(_overview(operations))
        blocks.extend(_operation(*each) for each in operations)
    blocks.append("## Objects\n")
    blocks.extend(_object(name, schemas[name]) for name in sorted(schemas))
    return "\n".join(blocks)


def _overview(operations: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    rows = (
        (f"[`{method} {path}`](#{_anchor(f'{method} {path}')})", _first_sentence(operation))
        for method, path, operation in operations
    )
    return _table(("request", "what it does"), rows)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f"### {method} {path}\n", _prose(operation.get("description", "")) + "\n"]
    parameters = [
        (f"`{each['name']}`", each["in"], *_facts(each["schema"], each.get("required", False)))
        for each in operation.get("parameters", ())
    ]
    if parameters:
        parts.append(_table(("parameter", "in", "type", "what it says"), parameters))
    content = operation.get("requestBody", {}).get("content", {})
    bodies = [_type(content[form]["schema"]) for form in _BODIES if form in content]
    if bodies:
        kinds = [form.partition("/")[2] for form in _BODIES if form in content]
        told = ", or ".join(f"{body} ({kind})" for body, kind in zip(bodies, kinds, strict=True))
        parts.append(f"Body: {told}.\n")
    parts.append(_answers(operation["responses"]) + "\n")
    return "\n".join(parts)


def _answers(responses: Mapping[str, Any]) -> str:
    [good] = [status for status in responses if status.startswith("2")]
    forms = responses[good].get("content", {})
    said = [
        _type(form["schema"]) if kind == "application/json" and form.get("schema") else f"`{kind}`"
        for kind, form in forms.items()
    ]
    refusals = ", ".join(sorted(status for status in responses if not status.startswith("2")))
    return f"Answers {good}: {' or '.join(said) or 'JSON'}. Refusals: {refusals}."


def _object(name: str, schema: Mapping[str, Any]) -> str:
    parts = [f"### {name}\n"]
    if "description" in schema:
        parts.append(_prose(schema["description"]) + "\n")
    if "enum" in schema:
        parts.append(", ".join(f"`{value}`" for value in schema["enum"]) + "\n")
    required = schema.get("required", ())
    fields = [
        (f"`{field}`", *_facts(facts, field in required))
        for field, facts in schema.get("properties", {}).items()
    ]
    if fields:
        parts.append(_table(("field", "type", "what it says"), fields))
    return "\n".join(parts)


def _facts(schema: Mapping[str, Any], is_required: bool) -> tuple[str, str]:
    """Give a value's type, and what else is known of it."""
    said = [_prose(schema.get("description", ""))] if schema.get("description") else []
    if is_required:
        said.append("Required.")
    bounds = _bounds(schema)
    if bounds:
        said.append(f"{bounds}.")
    if schema.get("default") is not None:
        said.append(f"Default: `{schema['default']}`.")
    return _type(schema), " ".join(said)


def _bounds(schema: Mapping[str, Any]) -> str:
    for each in (schema, *schema.get("anyOf", ())):
        least = each.get("minimum", each.get("minLength", each.get("minItems")))
        most = each.get("maximum", each.get("maxLength", each.get("maxItems")))
        if least is not None and most is not None:
            return f"From {least:,} to {most:,}"
        if least is not None:
            return f"At least {least:,}"
        if most is not None:
            return f"At most {most:,}"
    return ""


def _type(schema: Mapping[str, Any]) -> str:
    """Name a schema's type; an object of its own by a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_COMPONENT)
        return f"[{name}](#{_anchor(name)})"
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [_type(each) for each in schema.get("anyOf") or schema["oneOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and "properties" in schema:
        return "form of " + ", ".join(f"`{field}`" for field in schema["properties"])
    return schema.get("type", "anything")


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _prose(text: str) -> str:
    """Take a docstring's words; how it is raised in Python is nobody's business here."""
    return " ".join(text.partition("\nRaises:")[0].split())


def _first_sentence(operation: Mapping[str, Any]) -> str:
    return _prose(operation.get("description", "").partition("\n\n")[0])


def _anchor(heading: str) -> str:
    """Name a heading as GitHub and its like do in links."""
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


def _main() -> None:
    from ..jobs.settings import Settings
    from .app import create_app

    with tempfile.TemporaryDirectory() as data:
        app = create_app(Settings(data=data, redis_url="redis://127.0.0.1:1/0"))
        print(reference(app.openapi()), end="")


if __name__ == "__main__":
    _main()
