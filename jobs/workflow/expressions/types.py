"""What can be known of a value before there is one. Knows no column, no step and no expression.

Every value may also be null, a failed row's for instance; so null is not part of a type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias

from ..plan import ColumnKind

Kind: TypeAlias = Literal[
    "null", "bool", "int64", "float64", "string", "list", "object", "vector", "any"
]

MAX_VALUES = 256  # more than these are not kept in mind

_IN_WORDS: Mapping[Kind, str] = {
    "null": "null",
    "bool": "true or false",
    "int64": "a number",
    "float64": "a number",
    "string": "a text",
    "list": "a list",
    "object": "an object",
    "vector": "a vector",
    "any": "anything",
}


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a value.

    Attributes:
        fields: of an object, those that are known.
        is_open: whether an object may have other fields too.
        item: of a list, what all its items are, if that is known.
        values: all that the value can be, besides null, where these are few and known.
        is_form: whether these are all that an answer may be, so that to ask for another is a slip.
    """

    kind: Kind
    fields: Mapping[str, "Type"] = field(default_factory=dict)
    is_open: bool = True
    item: "Type | None" = None
    values: tuple[Any, ...] | None = None
    is_form: bool = False

    @classmethod
    def of_column(cls, kind: ColumnKind) -> Self:
        """Return what is known of a column of an input."""
        match kind:
            case "json":
                return cls("any")
            case "vector":
                return cls("vector", item=cls("float64"))
            case _:
                return cls(kind)

    @classmethod
    def of_value(cls, value: Any) -> Self:
        """Return the type of a value that is known."""
        match value:
            case None:
                return cls("null")
            case bool():
                return cls("bool", values=(value,))
            case int():
                return cls("int64", values=(value,))
            case float():
                return cls("float64", values=(value,))
            case str():
                return cls("string", values=(value,))
            case list() | tuple():
                return cls.list_of([cls.of_value(item) for item in value])
            case dict():
                fields = {str(name): cls.of_value(each) for name, each in value.items()}
                return cls("object", fields, is_open=False)
            case _:
                return cls("any")

    @classmethod
    def list_of(cls, items: "list[Type]") -> Self:
        """Return the type of a list of such items."""
        return cls("list", item=joined(items) if items else None)

    @classmethod
    def object_of(cls, fields: "Mapping[str, Type]", *, is_open: bool = False) -> Self:
        """Return the type of an object with these fields."""
        return cls("object", dict(fields), is_open=is_open)

    @classmethod
    def one_of(cls, values: Sequence[Any]) -> "Type":
        """Return the type of an answer that is one of some values."""
        of = joined([cls.of_value(value) for value in values])
        return replace(of, is_form=of.values is not None)

    @property
    def column_kind(self) -> ColumnKind:
        """Return how a column of such values is kept."""
        match self.kind:
            case "bool" | "int64" | "float64" | "string" | "vector":
                return self.kind
            case _:
                return "json"

    @property
    def is_number(self) -> bool:
        """Whether it counts as a number; true and false do, as 1 and 0."""
        return self.kind in ("bool", "int64", "float64")

    @property
    def in_words(self) -> str:
        """Say what it is."""
        return _IN_WORDS[self.kind]

    def without_values(self) -> "Type":
        """Return the type without what exactly its values are."""
        return self if self.values is None else replace(self, values=None, is_form=False)


ANY = Type("any")
NULL = Type("null")
BOOL = Type("bool")
INT = Type("int64")
FLOAT = Type("float64")
TEXT = Type("string")


def joined(types: list[Type]) -> Type:
    """Return what is known of a value that is of one of some types."""
    known = [each for each in types if each.kind != "null"]
    if not known:
        return NULL
    first, *others = known
    for other in others:
        first = _join(first, other)
    return first


def _join(a: Type, b: Type) -> Type:
    if a.kind != b.kind:
        is_number = {a.kind, b.kind} == {"int64", "float64"}
        return FLOAT if is_number else ANY
    match a.kind:
        case "object":
            return _join_objects(a, b)
        case "list":
            if a.item is None or b.item is None:
                return Type("list", item=a.item or b.item)
            return Type("list", item=_join(a.item, b.item))
    if a.values is None or b.values is None:
        return a.without_values()
    values = tuple(dict.fromkeys(a.values + b.values))
    if len(values) > MAX_VALUES:
        return a.without_values()
    return replace(a, values=values, is_form=a.is_form and b.is_form)


def _join_objects(a: Type, b: Type) -> Type:
    """Know the fields of both; one that only the other has may be null, as everything may."""
    fields = dict(a.fields)
    for name, each in b.fields.items():
        fields[name] = _join(fields[name], each) if name in fields else each
    if a.is_open or b.is_open:  # the one that is open may have such a field, of whatever type
        for name in a.fields.keys() ^ b.fields.keys():
            fields[name] = ANY
    return Type("object", fields, is_open=a.is_open or b.is_open)
