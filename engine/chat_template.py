"""A model's chat template: brings messages into the form it knows, and has it rendered in bounds.

Knows how OpenAI writes messages and what templates expect. Runs no template in this process.
"""

import json
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_CPU_S = 5.0
MAX_MEMORY_BYTES = 1 << 30
MAX_CHARS = 16_000_000
_SCRIPT = Path(__file__).with_name("chat_sandbox.py")
_LENGTH = struct.Struct(">I")
_REASONING = ("reasoning_content", "thinking", "reasoning")


class TemplateFailed(ValueError):
    """A template could not be rendered with these messages; the message says why."""


class InvalidMessages(ValueError):
    """The messages are none that a template could be given."""


def template_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Bring messages as OpenAI's clients write them into what chat templates expect.

    Nulls are left out, text parts joined, and the arguments of tool calls read from their JSON.

    Raises:
        InvalidMessages: a message is no object, or holds something that is not text.
    """
    if not messages:
        raise InvalidMessages("a conversation needs at least one message")
    return [_template_message(message) for message in messages]


class ChatRenderer:
    """Renders templates in a process of its own, which ends with this object.

    The process starts with the first rendering. Threads may share it; they take turns.
    """

    def __init__(
        self,
        *,
        max_cpu_s: float = MAX_CPU_S,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        max_chars: int = MAX_CHARS,
    ) -> None:
        self._max_cpu_s = max_cpu_s
        limits = (max_cpu_s, max_memory_bytes, max_chars)
        # -P: neither this directory nor the current one is a place to import from.
        self._command = [sys.executable, "-P", str(_SCRIPT), *map(str, limits)]
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._turn = threading.Lock()

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """Fill `template` in.

        Raises:
            TemplateFailed: it raised something, took too long or too much, or is no template.
        """
        try:
            body = json.dumps({"template": template, "variables": variables}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise TemplateFailed(f"they cannot be written as JSON: {error}") from None
        with self._turn:
            answer = self._ask(body)
            if answer is None and self._is_innocent():
                answer = self._ask(body)  # something else had ended the process
            if answer is None:
                raise TemplateFailed(self._cause_of_death())
        if "error" in answer:
            raise TemplateFailed(answer["error"])
        return answer["text"]

    def close(self) -> None:
        """End the process; the next rendering would start another."""
        with self._turn:
            if self._end is not None:
                self._end()

    def _ask(self, body: bytes) -> dict[str, str] | None:
        """Send one request and read its answer; None if the process has died over it."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(_LENGTH.pack(len(body)) + body)
            process.stdin.flush()
            head = process.stdout.read(_LENGTH.size)
            if len(head) == _LENGTH.size:
                (size,) = _LENGTH.unpack(head)
                text = process.stdout.read(size)
                if len(text) == size:
                    return json.loads(text)
        except OSError:
            pass
        except BaseException:  # an interrupt: the next one would read this one's answer
            if self._end is not None:
                self._end()
            raise
        process.wait()
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            if self._end is not None:
                self._end()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def _is_innocent(self) -> bool:
        """Whether what ended the process was no doing of the template."""
        return self._process is not None and self._process.returncode == -signal.SIGKILL

    def _cause_of_death(self) -> str:
        status = self._process.returncode if self._process else None
        if status == -signal.SIGPROF:
            return f"it takes more than {self._max_cpu_s:g} s"
        return f"it has ended the process that renders it (status {status})"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):  # what could not be written any more
                stream.close()
    process.wait()


def _template_message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidMessages(f"a message must be an object, got {type(message).__name__}")
    made = {key: value for key, value in message.items() if value is not None}
    if isinstance(made.get("content"), list | tuple):
        made["content"] = "".join(_part_text(part) for part in made["content"])
    if made.get("tool_calls"):
        made["tool_calls"] = [_template_call(call) for call in made["tool_calls"]]
    else:
        made.pop("tool_calls", None)  # templates ask whether there are any, not how many
    # Templates disagree on what reasoning is called, as clients do.
    reasoning = next((made[name] for name in _REASONING if name in made), None)
    if reasoning is not None:
        made = {"thinking": reasoning, **made, "reasoning_content": reasoning}
    return made


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise InvalidMessages(f"messages may hold text only, got a part of type {kind!r}")
    return text


def _template_call(call: Any) -> Any:
    """Read the arguments of a call: OpenAI has them as text, templates want the object."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
