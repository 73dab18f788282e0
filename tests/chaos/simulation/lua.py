"""Turns a Redis script into a Python function: as much of Lua 5.1 as jobs/scripts/ uses.

Knows syntax only; what values do is in `lua_runtime`, what commands do in `store`. A word that it
does not know is an error when the script is read, never a silent difference when it runs.

    chunk, block, if, while, for, local, function, return, assignment, call
    or < and < comparison < .. < + - < * / % < not # -
"""

import re
from collections.abc import Callable
from functools import cache
from importlib.abc import InspectLoader
from types import ModuleType
from typing import Any

from . import lua_runtime

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|--\[\[.*?\]\]|--[^\n]*)+)
      | (?P<name>[A-Za-z_]\w*) | (?P<number>\d+(?:\.\d+)?)
      | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<symbol>\.\.|==|~=|<=|>=|[-+*/%\#<>=(){}\[\];:,.])""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = frozenset(
    (
        *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in"),
        *("local", "nil", "not", "or", "return", "then", "true", "while"),
    )
)
_LEVELS = (("or",), ("and",), ("==", "~=", "<", ">", "<=", ">="), ("..",), ("+", "-"), "*/%")
_COMPARISONS = {"==": "==", "~=": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_ARITHMETIC = frozenset("+-*/%")
_GLOBALS = {"KEYS", "ARGV"}

Call = Callable[..., Any]


@cache
def compiled(source: str) -> Callable[[Call, list[str], list[str]], Any]:
    """Compile a script. Give it what does `redis.call`, KEYS and ARGV; it answers as Redis does.

    Raises:
        SyntaxError: it says something that is not understood here.
    """
    module = ModuleType("script")
    vars(module).update(lua_runtime.LIBRARY)
    _Loader(_Writer(source).chunk()).exec_module(module)
    return lua_runtime.answering(module.script)


class _Loader(InspectLoader):
    """Loads a module from the text of it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_source(self, fullname: str) -> str:
        return self._text


class _Writer:
    """Reads tokens and writes Python lines. A local gets a Python name of its own."""

    def __init__(self, source: str) -> None:
        self._tokens = list(_tokens(source))
        self._at = 0
        self._lines: list[str] = []
        self._depth = 1
        self._num_names = 0
        self._scopes: list[dict[str, str]] = [{}]  # blocks, inner last: Lua name -> Python name
        self._functions: list[tuple[int, set[str]]] = [(0, set())]  # first scope, names not its own

    def chunk(self) -> str:
        self._block("end of file")
        return "\n".join(["def script(call, KEYS, ARGV):", *self._lines, "    return None"])

    # Statements.

    def _block(self, *ends: str) -> str:
        self._scopes.append({})
        num_lines = len(self._lines)
        while self._word not in ends:
            self._statement()
        if len(self._lines) == num_lines:
            self._write("pass")
        self._scopes.pop()
        return self._next()

    def _statement(self) -> None:
        match self._word:
            case "local":
                self._next()
                self._function() if self._skip("function") else self._local()
            case "if":
                self._if()
            case "while":
                self._next()
                self._write(f"while {self._condition()}:")
                self._expect("do")
                self._indented("end")
            case "for":
                self._for()
            case "return":
                self._return()
            case _:
                self._assignment_or_call()
        self._skip(";")

    def _indented(self, *ends: str) -> str:
        self._depth += 1
        end = self._block(*ends)
        self._depth -= 1
        return end

    def _if(self) -> None:
        word = "if"
        while word in ("if", "elseif"):
            if word == "if":
                self._next()
            self._write(f"{'if' if word == 'if' else 'elif'} {self._condition()}:")
            self._expect("then")
            word = self._indented("elseif", "else", "end")
        if word == "else":
            self._write("else:")
            self._indented("end")

    def _for(self) -> None:
        self._next()
        names = self._names()
        if self._skip("="):
            loop = f"in steps({', '.join(self._values())}):"
        else:
            self._expect("in")
            loop = f"in {self._expression()[0]}:"
        self._expect("do")
        self._scopes.append({})
        targets = ", ".join(self._declare(name) for name in names)
        self._write(f"for {targets} {loop}")
        self._indented("end")
        self._scopes.pop()

    def _local(self) -> None:
        names = self._names()
        values = self._values() if self._skip("=") else ["None"]
        self._assign([self._declare(name) for name in names], values)

    def _function(self) -> None:
        name = self._declare(self._next())
        self._scopes.append({})
        self._functions.append((len(self._scopes) - 1, set()))
        self._expect("(")
        parameters = [] if self._word == ")" else self._names()
        self._expect(")")
        declared = ", ".join(f"{self._declare(each)}=None" for each in parameters)
        self._write(f"def {name}({declared}):")
        first = len(self._lines)
        self._indented("end")
        _, foreign = self._functions.pop()
        if foreign:
            self._lines.insert(first, "    " * (self._depth + 1) + f"nonlocal {', '.join(foreign)}")
        self._scopes.pop()

    def _return(self) -> None:
        self._next()
        is_bare = self._word in ("end", "else", "elseif", "end of file")
        values = ["None"] if is_bare else self._values()
        several = f"results({', '.join(values)})"
        self._write(f"return {values[0] if _is_one(values) else several}")

    def _assignment_or_call(self) -> None:
        targets = [self._target()]
        if self._word not in ("=", ","):
            self._write(targets[0])
            return
        while self._skip(","):
            targets.append(self._target())
        self._expect("=")
        self._assign(targets, self._values())

    def _target(self) -> str:
        name = self._word
        text, kind = self._suffixed()
        if kind == "name":
            self._note_assignment(name, text)
        return text

    def _note_assignment(self, name: str, python_name: str) -> None:
        first_scope, foreign = self._functions[-1]
        if not any(name in scope for scope in self._scopes[first_scope:]):
            foreign.add(python_name)

    def _assign(self, targets: list[str], values: list[str]) -> None:
        if len(targets) == 1 and _is_one(values):
            self._write(f"{targets[0]} = {values[0]}")
        else:
            joined = ", ".join(values)
            self._write(f"{', '.join(targets)}, = padded({len(targets)}, {joined})")

    # Expressions. Each is Python text and a kind: "name", "call" (it may be several values),
    # "test" (it is a Python bool), "number" (it is one, no text that reads as one), or "value".

    def _condition(self) -> str:
        text, kind = self._expression()
        return text if kind == "test" else f"is_true({self._single(text, kind)})"

    def _values(self) -> list[str]:
        """Read a list of expressions; of the last one, all values count."""
        values = []
        while True:
            text, kind = self._expression()
            if not self._skip(","):
                values.append(f"*every({text})" if kind == "call" else text)
                return values
            values.append(self._single(text, kind))

    def _single(self, text: str, kind: str) -> str:
        return f"first({text})" if kind == "call" else text

    def _expression(self, level: int = 0) -> tuple[str, str]:
        if level == len(_LEVELS):
            return self._unary()
        text, kind = self._expression(level + 1)
        while self._word in _LEVELS[level]:
            operator = self._next()
            # `..` is right-associative, which for text makes no difference.
            other, other_kind = self._expression(level + 1)
            if operator in _ARITHMETIC:
                text = f"({_number(text, kind)} {operator} {_number(other, other_kind)})"
                kind = "number"
            else:
                left, right = self._single(text, kind), self._single(other, other_kind)
                text, kind = self._binary(operator, left, right)
        return text, kind

    def _binary(self, operator: str, left: str, right: str) -> tuple[str, str]:
        if operator in ("and", "or"):
            self._num_names += 1
            held = f"held{self._num_names}"
            test = f"is_true({held} := {left})"
            if operator == "and":
                return f"({right} if {test} else {held})", "value"
            return f"({held} if {test} else {right})", "value"
        if operator in _COMPARISONS:
            return f"({left} {_COMPARISONS[operator]} {right})", "test"
        return f"(text({left}) + text({right}))", "value"

    def _unary(self) -> tuple[str, str]:
        if self._skip("not"):
            text, kind = self._unary()
            inner = text if kind == "test" else f"is_true({self._single(text, kind)})"
            return f"(not {inner})", "test"
        if self._skip("#"):
            return f"len({self._single(*self._unary())})", "number"
        if self._skip("-"):
            return f"(-{_number(*self._unary())})", "number"
        return self._suffixed()

    def _suffixed(self) -> tuple[str, str]:
        text, kind = self._primary()
        while self._word in ("(", "[", "."):
            opening = self._next()
            if opening == "(":
                arguments = [] if self._word == ")" else self._values()
                self._expect(")")
                kind = "value" if text in lua_runtime.SINGLE else "call"
                text = f"{text}({', '.join(arguments)})"
            elif opening == "[":
                text, kind = f"{text}[{self._single(*self._expression())}]", "value"
                self._expect("]")
            else:
                text, kind = f"{text}[{self._next()!r}]", "value"
        return text, kind

    def _primary(self) -> tuple[str, str]:
        kind, word = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return word, "number"
        if kind == "string":
            return repr(re.sub(r"\\(.)", r"\1", word[1:-1])), "value"
        if word == "(":
            text, inner = self._expression()
            self._expect(")")
            return (text, inner) if inner == "test" else (self._single(text, inner), "value")
        if word == "{":
            return self._table(), "value"
        if word in ("nil", "true", "false"):
            return {"nil": "None", "true": "True", "false": "False"}[word], "value"
        if kind != "name":
            raise SyntaxError(f"{word!r} is not understood, before {self._rest()!r}")
        return self._variable(word), "name"

    def _variable(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        if self._word == ".":  # redis.call, math.max, string.match
            self._next()
            function = f"{name}.{self._next()}"
            python_name = lua_runtime.FUNCTIONS.get(function)
        else:
            function, python_name = name, name if name in _GLOBALS else None
            python_name = python_name or lua_runtime.FUNCTIONS.get(name)
        if python_name is None:
            raise SyntaxError(f"{function} is not known here, before {self._rest()!r}")
        return python_name

    def _table(self) -> str:
        items: list[str] = []
        fields: list[str] = []
        while self._word != "}":
            if self._tokens[self._at + 1][1] == "=":
                name = self._next()
                self._next()
                fields.append(f"{name!r}: {self._single(*self._expression())}")
            else:
                items.append(self._single(*self._expression()))
            self._skip(",")
        self._next()
        fields += [f"{place}: {item}" for place, item in enumerate(items, 1)]
        return f"Table({{{', '.join(fields)}}})"

    # Names and tokens.

    def _names(self) -> list[str]:
        names = [self._next()]
        while self._skip(","):
            names.append(self._next())
        return names

    def _declare(self, name: str) -> str:
        self._num_names += 1
        python_name = self._scopes[-1][name] = f"{name}_{self._num_names}"
        return python_name

    @property
    def _word(self) -> str:
        return self._tokens[self._at][1]

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _skip(self, word: str) -> bool:
        if self._word != word:
            return False
        self._at += 1
        return True

    def _expect(self, word: str) -> None:
        if not self._skip(word):
            raise SyntaxError(f"{word!r} should stand before {self._rest()!r}")

    def _rest(self) -> str:
        return " ".join(word for _, word in self._tokens[self._at : self._at + 8])

    def _write(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)


def _number(text: str, kind: str) -> str:
    if kind == "number":
        return text
    return f"number(first({text}))" if kind == "call" else f"number({text})"


def _is_one(values: list[str]) -> bool:
    return len(values) == 1 and not values[0].startswith("*")


def _tokens(source: str) -> list[tuple[str, str]]:
    tokens = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise SyntaxError(f"{source[at : at + 20]!r} is no Lua that is understood here")
        at = match.end()
        if match.lastgroup == "name" and match[0] in _WORDS:
            tokens.append(("word", match[0]))
        elif match.lastgroup != "space":
            tokens.append((str(match.lastgroup), match[0]))
    return [*tokens, ("end", "end of file"), ("end", "end of file")]
