"""Prompt templates over a row's columns: Jinja, fenced in. Knows no file, no model, no tokenizer.

A template comes from whoever may submit a job, and is rendered beside other people's rows. So it
may read its row and shape text, and no more: only the nodes, filters and methods listed here, a
budget of work per row, and a cap on what comes out. What would not be bounded by the template and
its row (`'a' * 5e7`, macros, `range(10**9)`) is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import jinja2
from jinja2 import meta, nodes

from .model import RequestError, TaskSpec
from .template_budget import SPEND, Budget
from .template_filters import NullPrinted
from .template_nulls import null_words
from .template_paths import TemplatePath, template_paths
from .template_sandbox import CUSTOM_ID, ROW, RowSandbox

MAX_TEMPLATE_CHARS = 100_000
MAX_OUTPUT_CHARS = 1_000_000
ROW_NAMES = frozenset({ROW, CUSTOM_ID})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class TemplateError(ValueError):
    """A template cannot be used; the message says why, `line` where."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line


class RenderError(ValueError):
    """One row cannot be rendered; its neighbours are not concerned."""

    def __init__(self, message: str, code: str = "template_error", param: str | None = None):
        super().__init__(message)
        self.code = code
        self.param = param

    def to_request_error(self) -> RequestError:
        """Describe it as the failure of a row."""
        return RequestError(self.code, str(self), param=self.param, stage="render")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row asks the model: either a text or a conversation, as chat templates take it."""

    text: str | None
    messages: tuple[dict[str, Any], ...] | None
    endpoint: str | None


class Template:
    """A compiled template.

    Attributes:
        columns: those it names as `row.x` or `row["x"]`.
        paths: what it reads, from the name on: `("row", "judge", "score")`.
    """

    def __init__(
        self,
        columns: frozenset[str],
        paths: frozenset[TemplatePath],
        template: jinja2.Template,
    ) -> None:
        self.columns = columns
        self.paths = paths
        self._template = template

    @classmethod
    def compile(cls, text: str, names: frozenset[str] = ROW_NAMES) -> Self:
        """Read a template over some names.

        Raises:
            TemplateError: it is no template, or does what no template may do.
        """
        if len(text) > MAX_TEMPLATE_CHARS:
            raise TemplateError(
                f"a template may have {MAX_TEMPLATE_CHARS} characters, got {len(text)}"
            )
        sandbox = RowSandbox()
        try:
            tree = sandbox.parse(text)
            sandbox.check(tree)
            unknown = meta.find_undeclared_variables(tree) - {*names, *sandbox.globals}
            if unknown:
                name = min(unknown)
                raise TemplateError(f"unknown name {name!r}; a column is called {ROW}.{name}")
            columns = frozenset(_columns(tree))
            paths = template_paths(tree, names)
            code = sandbox.compile(sandbox.meter(tree))
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(error.message or "cannot be parsed", error.lineno) from None
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise TemplateError(f"is nested too deeply ({type(error).__name__})") from None
        template = jinja2.Template.from_code(sandbox, code, dict(sandbox.globals))
        return cls(columns, paths, template)

    def render(self, row: dict[str, Any], custom_id: str | None = None) -> str:
        """Fill the template in.

        Raises:
            RenderError: a column is missing, an expression fails, or the bounds are exceeded.
        """
        return self.render_in({ROW: row, CUSTOM_ID: custom_id})

    def render_in(self, scope: Mapping[str, Any]) -> str:
        """Fill the template in with all the names that it may use.

        Raises:
            RenderError: a column is missing, an expression fails, or the bounds are exceeded.
        """
        context = {**scope, SPEND: Budget()}
        pieces: list[str] = []
        num_chars = 0
        try:
            for piece in self._template.generate(context):
                num_chars += len(piece)
                if num_chars > MAX_OUTPUT_CHARS:
                    raise RenderError(f"the rendered text is longer than {MAX_OUTPUT_CHARS}")
                pieces.append(piece)
        except RenderError:
            raise
        except jinja2.UndefinedError as error:
            raise RenderError(_missing(error, scope.get(ROW, {}))) from None
        except NullPrinted as error:
            named = null_words(self.paths, scope)
            told = f" (null in this row: {named[:500]})" if named else ""
            raise RenderError(f"the template cannot be rendered: {error}{told}") from None
        except Exception as error:  # whatever an expression does to a row, only this row fails
            text = str(error) or type(error).__name__
            raise RenderError(f"the template cannot be rendered: {text[:500]}") from None
        return "".join(pieces)


def render_task(task: TaskSpec, row: dict[str, Any], custom_id: str | None = None) -> Prompt:
    """Make a row's prompt: from the task's template, or from the row's own column.

    Raises:
        TemplateError: the task's template cannot be used; a sealed job's always can.
        RenderError: this row cannot be rendered.
    """
    if task.prompt is not None:
        return Prompt(_compiled(task.prompt).render(row, custom_id), None, task.endpoint)
    if task.messages is not None:
        messages = tuple(
            {
                "role": message.role,
                "content": _compiled(message.content).render(row, custom_id),
            }
            for message in task.messages
        )
        return Prompt(None, messages, task.endpoint)
    return own_prompt(row, task.endpoint)


def own_prompt(said: dict[str, Any], endpoint: str | None) -> Prompt:
    """Read the prompt that a row, or the request in it, brings itself.

    Raises:
        RenderError: there is none that can be used.
    """
    if said.get("messages") is not None:
        return Prompt(None, tuple(_own_messages(said["messages"])), endpoint)
    if isinstance(said.get("prompt"), str):
        return Prompt(said["prompt"], None, endpoint)
    raise RenderError(
        "the row has neither a text in `prompt` nor a list in `messages`",
        code="invalid_request",
        param="prompt",
    )


def task_columns(task: TaskSpec) -> dict[str, frozenset[str]]:
    """Compile a task's templates; map each one's name to the columns it uses.

    Raises:
        TemplateError: one of them cannot be used.
    """
    if task.prompt is not None:
        return {"prompt": _compiled(task.prompt).columns}
    return {
        f"messages[{index}].content": _compiled(message.content).columns
        for index, message in enumerate(task.messages or ())
    }


def names_read(task: TaskSpec) -> frozenset[str]:
    """Tell which of `ROW_NAMES` a task's templates read; of those that read none all rows are one.

    Raises:
        TemplateError: one of them cannot be used.
    """
    messages = [message.content for message in task.messages or ()]
    texts = messages if task.prompt is None else [task.prompt]
    return frozenset(str(path[0]) for text in texts for path in _compiled(text).paths)


@lru_cache(maxsize=64)
def _compiled(text: str) -> Template:
    """Compile once per text: a job renders the same few templates for every row."""
    return Template.compile(text)


def _columns(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if not (isinstance(node.node, nodes.Name) and node.node.name == ROW):
            continue
        if isinstance(node, nodes.Getattr):
            yield node.attr
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            yield node.arg.value


def _own_messages(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise _bad_messages("must be a list of at least one message")
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            raise _bad_messages(f"[{index}] must be an object with role and content")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in _ROLES:
            raise _bad_messages(f"[{index}].role must be one of {', '.join(sorted(_ROLES))}")
        has_calls = role == "assistant" and isinstance(message.get("tool_calls"), list)
        if not _is_text(content) and not (content is None and has_calls):
            raise _bad_messages(f"[{index}].content must be a text")
        yield {**message, "role": "system" if role == "developer" else role}


def _is_text(content: Any) -> bool:
    if not isinstance(content, list):
        return isinstance(content, str)
    return all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    )


def _bad_messages(what: str) -> RenderError:
    joint = "" if what.startswith("[") else " "
    return RenderError(f"messages{joint}{what}", code="invalid_request", param="messages")


def _missing(error: jinja2.UndefinedError, row: Mapping[str, Any]) -> str:
    columns = ", ".join(sorted(row))[:200]
    return f"{error.message} (the row has: {columns})"
