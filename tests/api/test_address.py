"""Where a client goes, what it tells of that, and what it says when nobody is there."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from penstock.api.address import Address
from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import ServerUnreachable

from .scripted import connect, job_json, script


@pytest.mark.parametrize("url", ["http://host:1/v1", "http://host:1/v1/", "http://host:1/"])
def test_the_address_of_an_openai_client_is_one(url: str) -> None:
    handler, calls = script(httpx2.Response(200, json=job_json()))
    with Client(url, transport=httpx2.MockTransport(handler)) as client:
        client.jobs.get("job_1")
    assert calls[0].url.copy_with(query=None) == "http://host:1/v1/jobs/job_1"


def test_a_password_in_the_address_is_not_shown() -> None:
    with Client("http://user:secret@host:1/p") as client:
        assert repr(client) == "<Client http://host:1/p>"
        assert "secret" not in client._repr_html_()


def test_a_refused_connection_says_what_to_do() -> None:
    handler, _ = script(httpx2.ConnectError("refused"))
    with pytest.raises(ServerUnreachable, match=r"refused; start .*`penstock up`.* PENSTOCK_URL"):
        connect(handler, max_retries=0).jobs.get("job_1")


def test_a_server_that_broke_off_is_not_to_be_started() -> None:
    handler, _ = script(httpx2.ReadTimeout("too slow"))
    with pytest.raises(ServerUnreachable, match=r"too slow$"):
        connect(handler, max_retries=0).jobs.get("job_1")


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout_s": 0}, "timeout_s must be above 0, got 0"),
        ({"timeout_s": -1.5}, "timeout_s must be above 0"),
        ({"max_retries": -1}, "max_retries must be at least 0, got -1"),
    ],
)
def test_what_no_call_could_bear_is_refused(
    make: Callable[..., Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make("http://host:1", **options)


@pytest.mark.parametrize(
    ("url", "may_use_a_proxy"),
    [("http://127.0.0.1:8100", False), ("http://localhost:1", False), ("http://gpu:8100", True)],
)
def test_no_proxy_is_asked_for_this_machine(url: str, may_use_a_proxy: bool) -> None:
    options = Address.resolve(url, None, {}).http_options(None)
    assert options["trust_env"] is may_use_a_proxy
