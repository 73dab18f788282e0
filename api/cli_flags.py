"""Options that several verbs share, as the fields of one dataclass. Knows none of them by name."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """Let each field of a verb's dataclasses be an option of its own, as if it stood there.

    So `def submit(rows: Input, task: TaskFlags)` takes what `TaskFlags` has: `--prompt`, `--model`…
    """
    signature = inspect.signature(verb)
    types = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    groups = {
        name: kind for name, kind in types.items() if isinstance(kind, type) and is_dataclass(kind)
    }

    @wraps(verb)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{each.name: given.pop(each.name) for each in fields(group)})
        verb(**given)

    flat = [
        each
        for name, parameter in signature.parameters.items()
        for each in (_options(groups[name]) if name in groups else [parameter])
    ]
    named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in flat]
    called.__signature__ = signature.replace(parameters=named)  # pyright: ignore[reportAttributeAccessIssue] - what inspect reads first
    called.__annotations__ = {each.name: each.annotation for each in named}
    return called


def _options(group: type[Any]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=each.type,
        )
        for each in fields(group)
    ]
