"""What a caller says about a job, as JSON says it. Knows values, no option's meaning but two."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from ..jobs.model import SamplingParams
from .row_lines import plain_value


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Write every option in JSON's own types.

    Raises:
        TypeError: one of them cannot be; it is named.
    """
    return {name: _plain(name, value) for name, value in options.items()}


def check_names(given: Mapping[str, Any], known: type) -> None:
    """Refuse an option of a job that nobody knows.

    Raises:
        TypeError: naming it, and where it belongs, or what there is.
    """
    unknown = set(given) - set(known.__annotations__)
    if not unknown:
        return
    name = min(unknown)
    if name in {each.name for each in fields(SamplingParams)}:
        raise TypeError(f"{name!r} is about sampling; say sampling={{{name!r}: {given[name]!r}}}")
    raise TypeError(
        f"unknown option {name!r} for a job; there are {', '.join(known.__annotations__)}"
    )


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, SamplingParams):
        value = {key: each for key, each in value.to_mapping().items() if each is not None}
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, datetime):
        value = value.astimezone().isoformat()  # one that names no zone is of this machine's
    try:
        return json.loads(json.dumps(value, default=plain_value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{name} cannot be sent as JSON: {error}") from error
