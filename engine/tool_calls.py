"""Tool calls in a model's text, found as it arrives.

Knows how two families of models write calls, no tokens and no wire format. What is not a whole,
valid call stays text, so nothing a model says is ever lost.

    Hermes, Qwen   text <tool_call>{"name": …, "arguments": {…}}</tool_call> <tool_call>…
    Llama 3.x      {"name": …, "parameters": {…}}; {…}        or behind <|python_tag|>
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_PYTHON_TAG = "<|python_tag|>"
MARKERS = frozenset({OPEN, CLOSE})  # text, even where a tokenizer calls them special


class ToolFormat(StrEnum):
    """How a model writes tool calls."""

    HERMES = "hermes"
    LLAMA = "llama"


def detect_tool_format(chat_template: str) -> ToolFormat | None:
    """Tell from a chat template how its model writes tool calls; None if in no way known here."""
    if "tools" not in chat_template or "<function=" in chat_template:  # Qwen-Coder's XML
        return None
    if OPEN in chat_template:
        return ToolFormat.HERMES
    is_llama = _PYTHON_TAG in chat_template or "<|start_header_id|>" in chat_template
    return ToolFormat.LLAMA if is_llama and '"parameters"' in chat_template else None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. `arguments` is the text of a JSON object, as OpenAI has it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What some text turned out to be: plain text, and calls."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


class _State(Enum):
    """TEXT -> BEGUN -> ENDED -> TEXT, and back to TEXT from anywhere when it is no call."""

    TEXT = "looking for a marker"
    BEGUN = "inside the object"
    ENDED = "behind a whole object that is a call, if the right thing follows"


class ToolCallParser:
    """Parses one answer as it comes. However the text is cut, the sum of the pieces is the same.

    A call is told when it is whole. The blanks before the first call and behind any call are
    layout, and dropped; all other text comes out as it went in.
    """

    def __init__(self, form: ToolFormat, new_id: Callable[[], str]) -> None:
        self._is_llama = form is ToolFormat.LLAMA
        self._marker = _PYTHON_TAG if self._is_llama else OPEN
        self._new_id = new_id
        self._rest = ""  # not looked at yet
        self._raw = ""  # what a call was made of so far, to be said if it is none
        self._scanner = _ObjectScanner()
        self._call: ToolCall | None = None
        # Llama's calls need no marker when the answer begins with one.
        self._state = _State.BEGUN if self._is_llama else _State.TEXT
        self._text: list[str] = []
        self._calls: list[ToolCall] = []
        self._blank: str | None = ""  # blanks since the beginning; None once there was more
        self._is_behind_call = False
        self._has_called = False

    @property
    def has_called(self) -> bool:
        """Whether there was a call."""
        return self._has_called

    def push(self, text: str) -> Parsed:
        """Take more text; return what has become certain."""
        self._rest += text
        while self._rest and self._advance():
            pass
        return self._take()

    def flush(self) -> Parsed:
        """Return what was held back, at the end of the answer."""
        if self._state is _State.ENDED:
            self._rest = ""  # blanks, or the beginning of the closing mark: the call is whole
            self._accept()
        else:
            is_separator = self._is_behind_call and self._raw.strip() in ("", ";")
            if not (self._state is _State.BEGUN and is_separator and not self._rest.strip()):
                self._say(self._raw + self._rest)
            self._raw = self._rest = ""
        if self._blank and not self._has_called:
            self._text.append(self._blank)
            self._blank = None
        return self._take()

    def _advance(self) -> bool:
        """Go one state on; returns whether there is more to do without more text."""
        match self._state:
            case _State.TEXT:
                return self._look_for_marker()
            case _State.BEGUN:
                return self._read_object()
            case _State.ENDED:
                return self._close_llama() if self._is_llama else self._close_hermes()

    def _look_for_marker(self) -> bool:
        before, marker, behind = self._rest.partition(self._marker)
        if marker:
            self._say(before)
            self._begin(marker, behind)
            return True
        held = _overlap(self._rest, self._marker)
        self._say(self._rest[: len(self._rest) - held])
        self._rest = self._rest[len(self._rest) - held :]
        return False

    def _read_object(self) -> bool:
        verdict, size = self._scanner.scan(self._rest)
        self._raw += self._rest[:size]
        self._rest = self._rest[size:]
        if verdict is _Verdict.WHOLE:
            self._call = self._as_call(self._raw[self._raw.index("{") :])
            self._state = _State.ENDED
            if self._call is None:
                self._give_up()
        elif verdict is _Verdict.BROKEN:
            self._give_up()
        return verdict is not _Verdict.OPEN

    def _close_hermes(self) -> bool:
        tail = self._rest.lstrip()
        if tail.startswith(CLOSE):
            self._rest = tail.removeprefix(CLOSE)
            self._accept()
            return True
        if CLOSE.startswith(tail):
            return False
        self._give_up()
        return True

    def _close_llama(self) -> bool:
        tail = self._rest.lstrip()
        if not tail or (len(tail) < len(_PYTHON_TAG) and _PYTHON_TAG.startswith(tail)):
            return False
        if tail[0] in ";{":
            self._accept()
            separator = tail[0] if tail[0] == ";" else ""
            self._begin(separator, tail.removeprefix(separator))
        elif tail.startswith(_PYTHON_TAG):
            self._accept()
            self._rest = tail
        else:
            self._give_up()
        return True

    def _begin(self, lead: str, rest: str) -> None:
        self._raw, self._rest = lead, rest
        self._scanner = _ObjectScanner()
        self._state = _State.BEGUN

    def _accept(self) -> None:
        if self._call is not None:
            self._calls.append(self._call)
        self._raw, self._call, self._state = "", None, _State.TEXT
        self._blank = ""
        self._is_behind_call = self._has_called = True

    def _give_up(self) -> None:
        """Say what looked like a call as the text it is."""
        self._say(self._raw)
        self._raw, self._call, self._state = "", None, _State.TEXT

    def _say(self, text: str) -> None:
        if self._blank is not None:
            stripped = text.lstrip()
            if not stripped:
                self._blank += text
                return
            text = stripped if self._is_behind_call else self._blank + text
            self._blank, self._is_behind_call = None, False
        if text:
            self._text.append(text)

    def _take(self) -> Parsed:
        parsed = Parsed("".join(self._text), tuple(self._calls))
        self._text, self._calls = [], []
        return parsed

    def _as_call(self, text: str) -> ToolCall | None:
        """Read a whole object as a call, unless it is none."""
        try:
            value = json.loads(text, strict=False, parse_constant=_refuse)
            arguments = value.get("arguments", value.get("parameters"))
            # Bare objects may be an answer: only both keys make a call of them.
            if arguments is None and not self._is_llama:
                arguments = {}
            if isinstance(arguments, str):  # JSON within JSON, as some models write it
                arguments = json.loads(arguments, strict=False, parse_constant=_refuse)
            name = value.get("name")
            if not isinstance(name, str) or not name or not isinstance(arguments, dict):
                return None
            name.encode()
            return ToolCall(self._new_id(), name, _json_text(arguments))
        except (ValueError, RecursionError):  # half a surrogate pair is a ValueError too
            return None


def parse_tool_calls(form: ToolFormat, text: str, new_id: Callable[[], str]) -> Parsed:
    """Parse a whole answer."""
    parser = ToolCallParser(form, new_id)
    begun, ended = parser.push(text), parser.flush()
    return Parsed(begun.text + ended.text, begun.calls + ended.calls)


class _Verdict(Enum):
    OPEN = "more text is needed"
    WHOLE = "the object has been closed"
    BROKEN = "this can never become a JSON object"


class _ObjectScanner:
    """Finds where one JSON object ends, a piece of text at a time. What it passes may still be bad.

    Between strings only what JSON may have there is let through, so that a call which was never
    closed ends where prose or the next marker begins.
    """

    __slots__ = ("_depth", "_in_string", "_is_escaped")

    _STRUCTURE = frozenset('{}[]:,"+-.0123456789eEtrufalsn \t\r\n')

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def scan(self, text: str) -> tuple[_Verdict, int]:
        """Look at more text; returns how much of it belongs to the object, or to its ruin."""
        for index, char in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._is_escaped = char == "\\"
                self._in_string = char != '"'
            elif char not in self._STRUCTURE or (
                self._depth == 0 and char != "{" and not char.isspace()
            ):
                return _Verdict.BROKEN, index
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return _Verdict.WHOLE, index + 1
        return _Verdict.OPEN, len(text)


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest end of `text` with which `marker` may begin."""
    longest = min(len(text), len(marker) - 1)
    return next((n for n in range(longest, 0, -1) if marker.startswith(text[-n:])), 0)


def _json_text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair can only travel escaped
        return json.dumps(value, allow_nan=False)
    return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
