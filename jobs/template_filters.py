"""The filters of templates that are not Jinja's own: each pays for its work out of a row's budget.

Jinja's would make much out of little, or copy a list once per item. Knows no syntax tree.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import wraps
from typing import Any

import jinja2
from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from .template_budget import MAX_TEXT_CHARS, Budget, budget_of, weight_of

MAX_RANGE = 10_000


class NoValuePrinted(jinja2.TemplateRuntimeError):
    """An expression printed what is no value of the row's."""


class NullPrinted(NoValuePrinted):
    """It printed a null; of which column, only who knows the row can tell."""


def printable(value: Any) -> Any:
    """Let no null become the word "None" in a prompt, and nothing where it lies in memory."""
    if value is None:
        raise NullPrinted("it prints a null; write `| default('', true)` where null may stand")
    for part in _parts(value):
        if isinstance(part, jinja2.Undefined):
            str(part)  # a strict undefined raises here, and says what is missing
        elif callable(part):
            name = getattr(part, "__name__", type(part).__name__)
            raise NoValuePrinted(
                f"it prints {name!r}, which is no column here but a function: call it"
            )
        elif isinstance(part, Iterator):
            raise NoValuePrinted("it prints a generator; write `| list` or `| join(', ')` after it")
    return value


def _parts(value: Any) -> Iterator[Any]:
    """Walk a value all the way down; one of lists that share lists may be longer than it is big."""
    rest, num_parts = [value], 0
    while rest:
        value = rest.pop()
        yield value
        if isinstance(value, Collection) and not isinstance(value, str | bytes | range):
            num_parts += len(value)
            if num_parts > MAX_TEXT_CHARS:
                raise SecurityError(f"it would print something longer than {MAX_TEXT_CHARS}")
            rest.extend(value)
            rest.extend(value.values() if isinstance(value, dict) else ())


def of_text(filter: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter refuse what cannot be printed; of a null it would make the word "None"."""
    place = int(hasattr(filter, "jinja_pass_arg"))  # the first argument may be the context

    @wraps(filter)
    def checked(*arguments: Any, **options: Any) -> Any:
        printable(arguments[place])
        return filter(*arguments, **options)

    return checked


def is_number(value: Any) -> bool:
    """Tell whether arithmetic may be done with a value."""
    return isinstance(value, int | float)


def bounded_range(*arguments: int) -> range:
    """Count, so far and no further."""
    numbers = range(*arguments)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"range may have {MAX_RANGE} numbers, got {len(numbers)}")
    return numbers


@pass_context
def metered(context: Context, value: Any) -> Any:
    """Pay for looking at a value; what has no length pays as it is walked."""
    budget = budget_of(context)
    if isinstance(value, jinja2.Undefined):
        return value
    if isinstance(value, Iterator):
        return _walked(value, budget)
    budget.spend(weight_of(value, budget.left))
    return value


def metered_test(test: Callable[..., bool]) -> Callable[..., bool]:
    """Make a test pay for what it compares: `select` applies it once per item."""

    @pass_context
    def paid(context: Context, *values: Any) -> bool:
        budget = budget_of(context)
        budget.spend(sum(weight_of(value, budget.left) for value in values))
        return test(*values)

    return paid


def _walked(values: Iterator[Any], budget: Budget) -> Iterator[Any]:
    for value in values:
        budget.spend(1)
        yield value


@pass_context
def join(
    context: Context, values: Iterable[Any], separator: str = "", attribute: str | None = None
) -> str:
    """Join texts, within the longest text there may be."""
    budget = budget_of(context)
    pieces: list[str] = []
    num_chars = 0
    for value in values:
        if attribute is not None:
            value = context.environment.getitem(value, attribute)
        pieces.append(str(printable(value)))
        added = len(pieces[-1]) + len(separator)
        num_chars += added
        budget.spend(1 + added)
        if num_chars > MAX_TEXT_CHARS:
            raise SecurityError(f"join would make a text longer than {MAX_TEXT_CHARS}")
    return str(separator).join(pieces)


@pass_context
def replace(context: Context, text: Any, old: str, new: str) -> str:
    """Replace every occurrence, within the longest text there may be."""
    text, old, new = str(text), str(old), str(new)
    length = len(text) + text.count(old) * (len(new) - len(old))
    if length > MAX_TEXT_CHARS:
        raise SecurityError(f"replace would make a text longer than {MAX_TEXT_CHARS}")
    budget_of(context).spend(1 + len(text) + length)
    return text.replace(old, new)


def round_number(value: float, num_digits: int = 0) -> float:
    """Round to a sane number of digits."""
    return round(float(value), max(-30, min(30, int(num_digits))))


def sum_numbers(numbers: Iterable[float]) -> float:
    """Add numbers; lists would be copied once per item."""
    added: float = 0
    for number in numbers:
        if not is_number(number):
            raise SecurityError(f"sum adds numbers only, got {str(number)[:40]!r}")
        added += number
    return added


@pass_context
def to_json(context: Context, value: Any) -> str:
    """Write a value as JSON, as a model should read it: no HTML escapes."""
    if isinstance(value, jinja2.Undefined):
        str(value)
    text = json.dumps(value, ensure_ascii=False)
    budget_of(context).spend(1 + len(text))
    return text
