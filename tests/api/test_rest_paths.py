"""An id that somebody typed never becomes another path than the one that was meant."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from penstock.api.client import Client
from penstock.api.client_errors import InvalidInput
from penstock.api.rest_paths import path_to

from .scripted import connect, job_json, script

CALLS: dict[str, Callable[[Client, str], Any]] = {
    "jobs.get": lambda client, name: client.jobs.get(name),
    "jobs.cancel": lambda client, name: client.jobs.cancel(name),
    "jobs.pause": lambda client, name: client.jobs.pause(name),
    "jobs.resume": lambda client, name: client.jobs.resume(name),
    "jobs.delete": lambda client, name: client.jobs.delete(name),
    "jobs.update": lambda client, name: client.jobs.update(name, priority=1),
    "jobs.retry": lambda client, name: client.jobs.retry(name),
    "workflows.get": lambda client, name: client.workflows.get(name),
    "workflows.delete": lambda client, name: client.workflows.delete(name),
    "workflows.load": lambda client, name: client.workflows.load(name),
    "workflows.forget": lambda client, name: client.workflows.forget(name),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["", ".", "..", "../files/x", "job_1/pause?x=", None])
def test_what_can_be_no_id_is_not_sent(call: str, name: Any) -> None:
    handler, calls = script()
    with pytest.raises(InvalidInput, match="can be no id"):
        CALLS[call](connect(handler), name)
    assert calls == []


def test_an_odd_id_stays_one_name() -> None:
    assert path_to("jobs", "a b?x=#%2F", "cancel") == "/v1/jobs/a%20b%3Fx%3D%23%252F/cancel"
    handler, calls = script(httpx2.Response(200, json=job_json()))
    connect(handler).jobs.cancel("job_1?x=")
    assert calls[0].url.raw_path == b"/v1/jobs/job_1%3Fx%3D/cancel"
