"""The form that an output must have, as the user states it. Knows no grammar engine and no tokens,
so that the API can check with it; `grammar` is where it is made to hold.
"""

import json
from dataclasses import dataclass, fields
from typing import Any, Self

from .sampling_checks import InvalidSampling, check_flag, check_texts, items, shown

MAX_CHARACTERS = 1 << 18  # of a schema, an expression, a grammar, or all choices together
MAX_CHOICES = 4096
_PARAM = "structured_outputs"
_KINDS = ("json", "regex", "choice", "grammar", "json_object")


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredOutputs:
    """One form, under the names of vLLM's `StructuredOutputsParams`: exactly one of the first five.

    Attributes:
        json: a JSON Schema, as an object or as its text; kept as text.
        regex: an expression in Rust's syntax that the whole output matches.
        choice: texts of which the output is one.
        grammar: a context-free grammar in Lark's syntax as llguidance reads it, with a rule
            `start`, or in GBNF, llama.cpp's, with a rule `root` and up to 16,384 characters.
        json_object: True for any JSON object.
        disable_any_whitespace: JSON without any space between its parts.
        whitespace_pattern: the expression for what may stand between the parts of JSON, up to 32
            blanks if it is not given.

    Raises:
        InvalidSampling: none or several forms are given, or one that is not what it must be.
            Whether a schema or a grammar can be fulfilled is found out when it is compiled.
    """

    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    whitespace_pattern: str | None = None

    def __post_init__(self) -> None:
        """Check every value, and bring a schema to text and choices to a tuple."""
        if self.json_object is not None:
            check_flag(f"{_PARAM}.json_object", self.json_object)
            object.__setattr__(self, "json_object", self.json_object or None)
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise _invalid(f"must have exactly one of {', '.join(_KINDS)}, got {got}")
        if self.json is not None:
            object.__setattr__(self, "json", _schema_text(self.json))
        if self.choice is not None:
            choice = items(_PARAM + ".choice", self.choice)
            if not choice:
                raise _invalid("must name at least one text in choice, got none")
            check_texts(_PARAM + ".choice", choice, at_most=MAX_CHOICES)
            object.__setattr__(self, "choice", choice)
        for name in ("regex", "grammar", "whitespace_pattern"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise _invalid(f"must have a non-empty string as {name}, got {shown(value)}")
        check_flag(f"{_PARAM}.disable_any_whitespace", self.disable_any_whitespace)
        if self.whitespace_pattern is not None and self.disable_any_whitespace:
            raise _invalid("takes disable_any_whitespace or whitespace_pattern, got both")
        texts = (*(self.choice or ()), self.json, self.regex, self.grammar, self.whitespace_pattern)
        num_characters = sum(len(text) for text in texts if isinstance(text, str))
        if num_characters > MAX_CHARACTERS:
            raise _invalid(f"takes at most {MAX_CHARACTERS} characters, got {num_characters}")

    @classmethod
    def from_mapping(cls, values: object) -> Self:
        """Build from plain data, as it arrives in JSON.

        Raises:
            InvalidSampling: it is no object, a value is wrong, or a name is unknown.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict):
            raise _invalid(
                f"must be an object with one of {', '.join(_KINDS)}, got {shown(values)}"
            )
        for name in values:
            if name not in known:
                raise _invalid(f"has no field {shown(name)}; known: {', '.join(known)}")
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data that `from_mapping` reads back to an equal instance."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.choice is not None:
            values["choice"] = list(self.choice)
        return {name: value for name, value in values.items() if value not in (None, False)}


def check_schemas(param: str, *schemas: object) -> None:
    """Refuse schemas that together are too long to be a form; so they are, before being walked."""
    num_characters = sum(len(_schema_text(schema)) for schema in schemas)
    if num_characters > MAX_CHARACTERS:
        raise InvalidSampling(
            param, f"takes schemas of at most {MAX_CHARACTERS} characters, got {num_characters}"
        )


def _schema_text(schema: object) -> str:
    """Return a schema's text; the order of its properties is that of the output."""
    try:
        value = json.loads(schema) if isinstance(schema, str) else schema
        if not isinstance(value, dict):
            raise _invalid(f"must have a JSON Schema, an object, as json, got {shown(schema)}")
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as error:
        raise _invalid("must have a JSON Schema of fewer levels as json") from error
    except InvalidSampling:
        raise
    except (TypeError, ValueError) as error:
        raise _invalid(f"must have a JSON Schema as json: {str(error)[:100]}") from error


def _invalid(message: str) -> InvalidSampling:
    return InvalidSampling(_PARAM, message)
