"""Tables of the API reference, and what stands in them of a JSON Schema. Knows no route."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COMPONENT = "#/components/schemas/"
_UNITS = {"imum": "", "Length": " characters", "Items": " items"}  # minimum, minLength, minItems
_FEW = 3  # values that read well with "or" between them


def table(head: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Write a table; what Markdown would take for a border is none."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def anchor(heading: str) -> str:
    """Name a heading as GitHub and its like do in links."""
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


def facts(schema: Mapping[str, Any], *, needs_word: bool) -> tuple[str, str]:
    """Give a value's type, and what else is known of it; `needs_word` if it must be said."""
    said = [schema["description"]] if schema.get("description") else []
    if needs_word:
        said.append("Required.")
    bounds = _bounds(schema)
    if bounds:
        said.append(f"{bounds}.")
    if schema.get("default") is not None:
        said.append(f"Default: `{json.dumps(schema['default'])}`.")
    return type_of(schema), " ".join(said)


def type_of(schema: Mapping[str, Any]) -> str:
    """Name a schema's type; an object of its own by a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(COMPONENT)
        return f"[{name}](#{anchor(name)})"
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [type_of(each) for each in schema.get("anyOf") or schema["oneOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        between = " or " if len(schema["enum"]) <= _FEW else ", "
        return between.join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "file"
    if schema.get("type") == "object" and "properties" in schema:
        return "form of " + ", ".join(f"`{field}`" for field in schema["properties"])
    return schema.get("type", "anything")


def _bounds(schema: Mapping[str, Any]) -> str:
    for each in (schema, *schema.get("anyOf", ())):
        for of_what, unit in _UNITS.items():
            least, most = each.get(f"min{of_what}"), each.get(f"max{of_what}")
            above = each.get(f"exclusiveMin{of_what}")
            if above is not None and most is not None:
                return f"Above {_number(above)}, to {_number(most)}{unit}"
            if least is not None and most is not None:
                return f"From {_number(least)} to {_number(most)}{unit}"
            if least is not None:
                return f"At least {_number(least)}{unit}"
            if most is not None:
                return f"At most {_number(most)}{unit}"
    return ""


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
