"""The process in which chat templates run: `python chat_sandbox.py CPU_S MEMORY_BYTES MAX_CHARS`.

A chat template comes with the checkpoint, and may loop for ever or print a terabyte. Here it can:
the kernel ends this process when a rendering takes too long or too much, and the engine starts
another. Knows Jinja, and nothing of Penstock: it is run as a lone script, which loads in no time.

    stdin   {"template": …, "variables": {…}}      stdout   {"text": …} or {"error": …}

Each message is a length (4 bytes, big-endian) and that many bytes of JSON. What a template finds
here is what `transformers` gives it; a test holds the two side by side.
"""

import json
import resource
import signal
import struct
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_LENGTH = struct.Struct(">I")


class _Generation(Extension):
    """Knows `{% generation %}`, which marks the assistant's words for training; here it does not.

    The block is kept as a call, so that it has a scope of its own, as it has in `transformers`.
    """

    tags = {"generation"}  # noqa: RUF012 (jinja2 types it as a plain set, a ClassVar clashes)

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Any) -> str:
        return caller()


class _GuardedNamespace(Namespace):
    """A namespace whose attributes are no way into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may use the name `self`
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _refuse_underscore(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        Namespace.__setitem__(self, name, value)


class _Dict:
    """`dict()`, without the type behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


@lru_cache(maxsize=8)
def compiled(template: str) -> jinja2.Template:
    """Compile a template in an environment like that of `transformers`.

    Raises:
        jinja2.TemplateError: it is no template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _GuardedNamespace
    return environment.from_string(template)


def render(template: str, variables: dict[str, Any], max_chars: int) -> dict[str, str]:
    """Fill a template in; whatever it raises comes back as the error it is."""
    pieces: list[str] = []
    num_chars = 0
    try:
        for piece in compiled(template).generate(variables):
            num_chars += len(piece)
            if num_chars > max_chars:
                return {"error": f"it makes more than {max_chars} characters of them"}
            pieces.append(piece)
        return {"text": "".join(pieces)}
    except MemoryError:
        return {"error": "it needs more memory than a prompt is worth"}
    except Exception as error:  # a template raises whatever it likes
        return {"error": f"{type(error).__name__}: {error}"[:2000]}


def main(arguments: list[str]) -> None:
    """Serve until stdin ends."""
    cpu_s, memory_bytes, max_chars = float(arguments[0]), int(arguments[1]), int(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine
    with suppress(ValueError, OSError):  # not every system has such a limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    while (request := _read(sys.stdin.buffer)) is not None:
        # CPU time, so that a busy machine makes no template slow. SIGPROF ends the process.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        answer = render(request["template"], request["variables"], max_chars)
        signal.setitimer(signal.ITIMER_PROF, 0)
        body = json.dumps(answer).encode()
        sys.stdout.buffer.write(_LENGTH.pack(len(body)) + body)
        sys.stdout.buffer.flush()


def _read(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(_LENGTH.size)
    return json.loads(source.read(_LENGTH.unpack(head)[0])) if len(head) == _LENGTH.size else None


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as a model should read it: no HTML escapes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


if __name__ == "__main__":
    main(sys.argv[1:])
