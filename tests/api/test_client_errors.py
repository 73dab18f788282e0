"""The client's exceptions as values: whole after they have crossed to another process."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.api.client_errors import (
    ApiError,
    JobFailed,
    JobPaused,
    PenstockError,
    RowFailed,
    StreamFailed,
)

ARGUMENTS: dict[type[PenstockError], dict[str, Any]] = {
    StreamFailed: {"code": "gone"},
    JobFailed: {"job_id": "job_1", "status": "failed"},
    RowFailed: {"code": "timeout", "job_id": "job_1"},
    JobPaused: {"job_id": "job_1"},
    ApiError: {"status_code": 404, "code": "c", "param": "p", "request_id": "req_1"},
}


def _all_below(kind: type[PenstockError]) -> Iterator[type[PenstockError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == PenstockError.__module__:
            yield from _all_below(below)


@pytest.mark.parametrize("kind", dict.fromkeys(_all_below(PenstockError)))
def test_an_error_crosses_to_another_process(kind: type[PenstockError]) -> None:
    arguments = next((ARGUMENTS[base] for base in kind.__mro__ if base in ARGUMENTS), {})
    error = kind("it failed", **arguments)
    again = copy.deepcopy(error)  # by the same `__reduce__` as between processes
    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert vars(again).items() >= arguments.items()
