"""YAML for workflows, without its traps: what is read is plain JSON data, or refused by its place.

Knows no workflow. Read is the core schema of YAML 1.2, so that `on`, `no` and 12:30 stay texts and
a date is no object. Anchors, aliases and tags are refused: a few of them are enough for a file that
unfolds to gigabytes, or makes objects. So are keys that occur twice.
"""

import math
import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode
from yaml.reader import ReaderError

from .client_errors import InvalidInput

if TYPE_CHECKING:
    from yaml.error import Mark

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_NODES = 50_000

_SECOND = "a second value begins here; one file holds one"
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**63 - 1
_MAX_PLAIN_NUMBER_CHARS = 400
Resolvers: TypeAlias = dict[str, list[tuple[str, re.Pattern[str]]]]

# https://yaml.org/spec/1.2.2/#103-core-schema, but for octal and hexadecimal numbers
_CORE_SCHEMA = (
    (
        "float",
        re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
        [*"-+.0123456789"],
    ),
    ("float", re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"), [*"-+."]),
    ("int", re.compile(r"^[-+]?[0-9]+$"), [*"-+0123456789"]),
    ("bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), [*"tTfF"]),
    ("null", re.compile(r"^(~|null|Null|NULL|)$"), [*"~nN", ""]),
)
_LINE_BREAK = re.compile(r"[\r\x85\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class InvalidYaml(InvalidInput):
    """A text is not YAML that is read here; `line` and `column` count from 1."""

    def __init__(self, source: str, reason: str, line: int, column: int) -> None:
        super().__init__(f"{source}, line {line}, column {column}: {reason}")
        self.reason = reason
        self.line = line
        self.column = column


def read_yaml(text: str | bytes, *, source: str = "the workflow") -> Any:
    """Return what a text says: dicts, lists, texts, finite numbers, booleans and None.

    JSON is read too. `source` stands in messages.

    Raises:
        InvalidYaml: it is not YAML, or more than is read here.
    """
    text = _as_text(text, source)
    with _refusals(text, source):
        return _Loader(text, source).get_single_data()


def compose_yaml(text: str | bytes, *, source: str = "the workflow") -> Node | None:
    """Return the tree of a text, in which each value knows its line.

    Raises:
        InvalidYaml: it is not YAML, or more than is read here.
    """
    text = _as_text(text, source)
    with _refusals(text, source):
        return _Loader(text, source).get_single_node()


@contextmanager
def _refusals(text: str, source: str) -> Iterator[None]:
    """Say of what PyYAML cannot read, where it stands.

    Raises:
        InvalidYaml: there is something of that kind.
    """
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = "; ".join(part for part in (error.context, error.problem) if part)
        is_second = "<document start>" in reason
        raise _refusal(source, _SECOND if is_second else reason, mark) from None
    except ReaderError as error:
        lines = text[: error.position].split("\n")
        reason = f"the character {text[error.position]!a} may not stand in YAML"
        raise InvalidYaml(source, reason, len(lines), len(lines[-1]) + 1) from None


def write_yaml(document: Any) -> str:
    """Write plain data so that `read_yaml` gives it back: in the order given, without aliases."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )


def _as_text(text: str | bytes, source: str) -> str:
    num_bytes = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "replace"))
    if num_bytes > MAX_BYTES:
        raise InvalidYaml(source, f"it has {num_bytes:,} bytes, {MAX_BYTES:,} may be", 1, 1)
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise InvalidYaml(source, f"byte {error.start} is no UTF-8", line, 1) from None


def _resolvers(others: Resolvers) -> Resolvers:
    """Say which plain texts are something else, by their first character; `others` come after."""
    found: Resolvers = {first: list(each) for first, each in others.items()}
    for tag, pattern, firsts in _CORE_SCHEMA:
        for first in firsts:
            found.setdefault(first, []).insert(0, (f"tag:yaml.org,2002:{tag}", pattern))
    return found


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the core schema alone, and bounds what it is given."""

    yaml_implicit_resolvers = _resolvers({})

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self._source = source
        self._depth = 0
        self._num_nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._refuse("anchors and aliases are not read here: write the value out", mark)
        if getattr(event, "tag", None) is not None:
            self._refuse(f"tags are not read here, got {event.tag!r}", mark)
        self._depth += 1
        self._num_nodes += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"it is nested more than {MAX_DEPTH} levels deep", mark)
        if self._num_nodes > MAX_NODES:
            self._refuse(f"it holds more than {MAX_NODES:,} values", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                said = key_node.value if isinstance(key_node, ScalarNode) else f"a {key_node.id}"
                hint = "; quote texts that begin with {" if said == "a mapping" else ""
                self._refuse(f"a key must be a text, got {said}{hint}", key_node.start_mark)
            key = self.construct_object(key_node, deep=deep)
            if key in found:
                self._refuse(f"the key {key!r} occurs twice", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found

    def construct_text(self, node: ScalarNode) -> str:
        text = self.construct_scalar(node)
        if _SURROGATE.search(text):
            self._refuse("a text holds half a surrogate pair", node.start_mark)
        return text

    def construct_integer(self, node: ScalarNode) -> int:
        number = int(self._plain_number(node), 10)
        if not _MIN_INTEGER <= number <= _MAX_INTEGER:
            self._refuse("an integer may have at most 64 bits", node.start_mark)
        return number

    def construct_number(self, node: ScalarNode) -> float:
        text = self._plain_number(node)
        number = float(text) if text[-1] in "0123456789." else math.inf  # .inf and .nan
        if not math.isfinite(number):
            self._refuse(f"{node.value!r} is not a finite number", node.start_mark)
        return number

    def _plain_number(self, node: ScalarNode) -> str:
        if len(node.value) > _MAX_PLAIN_NUMBER_CHARS:
            self._refuse(f"a number has {len(node.value):,} digits", node.start_mark)
        return node.value

    def get_single_node(self) -> Node | None:
        """Compose the one document; PyYAML's own words for a second one would be of streams."""
        self.get_event()  # the stream's start
        if self.check_event(yaml.StreamEndEvent):
            self._refuse("it is empty", self.peek_event().start_mark)
        document = self.compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            mark = self.peek_event().start_mark
            self._refuse(_SECOND, mark)
        return document

    def fetch_more_tokens(self) -> None:
        """Read on; an escape such as `\\UFFFFFFFF`, which is no character, trips PyYAML."""
        try:
            super().fetch_more_tokens()
        except (ValueError, OverflowError):
            self._refuse("an escape names no character", self.get_mark())

    def _refuse(self, reason: str, mark: "Mark | None") -> NoReturn:
        raise _refusal(self._source, reason, mark)


def _refusal(source: str, reason: str, mark: "Mark | None") -> InvalidYaml:
    return InvalidYaml(source, reason, *((mark.line + 1, mark.column + 1) if mark else (1, 1)))


class _Dumper(yaml.SafeDumper):
    """Writes each value out, and texts of several lines as blocks.

    It quotes what either version of YAML would take for something else than a text.
    """

    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    style = None
    if _LINE_BREAK.search(text):  # to YAML 1.1, and unlike others lost if it stands unescaped
        style = '"'
    elif "\n" in text and not any(line != line.rstrip() for line in text.split("\n")):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_text)
_Dumper.add_representer(str, _write_text)
