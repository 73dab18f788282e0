"""How long a server that is away is borne, by whom."""

import httpx2
import pytest

from penstock.api.client_errors import ServerUnreachable
from penstock.api.patient_wait import patient
from penstock.api.retry_policy import RetryPolicy

from .scripted import connect, script


def test_more_tries_than_the_client_asked_for_unless_it_asked_for_none() -> None:
    assert patient(RetryPolicy()).max_retries > RetryPolicy().max_retries
    assert patient(RetryPolicy(max_retries=500)).max_retries == 500
    assert patient(RetryPolicy(max_retries=0)).max_retries == 0


def test_a_batcher_without_retries_tells_at_once() -> None:
    handler, calls = script(httpx2.ConnectError("refused"))
    with connect(handler, max_retries=0) as client, client.batcher(model="m") as batch:
        answer = batch.submit("hello")
        batch.flush()
        with pytest.raises(ServerUnreachable, match="refused"):
            answer.result(timeout=60)
    assert len(calls) == 1
