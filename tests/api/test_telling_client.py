"""Who waits for a server that goes away is told so, and that it is back: each once."""

from dataclasses import replace

import pytest

from penstock.api.app import create_app
from penstock.api.cli_client import open_client
from penstock.api.client_errors import ServerUnreachable
from tests.ports import reserved_port

from .command import Penstock
from .conftest import Stack
from .serving import serving

JOB, RUN = f"job_{'0' * 26}", f"run_{'0' * 26}"


def test_an_absence_is_told_once_and_its_end(stack: Stack) -> None:
    told: list[str] = []
    application = create_app(replace(stack.settings, namespace="telling"))
    with reserved_port() as port:
        with serving(application, port=port) as url:
            client = open_client(url, None, max_retries=0, tell=told.append)
            client.jobs.list()
        assert told == []
        with client:
            for _ in range(2):
                with pytest.raises(ServerUnreachable):
                    client.jobs.list()
            assert told == [f"cannot reach {url}, trying again"]
            application = create_app(replace(stack.settings, namespace="telling"))
            with serving(application, port=port):
                client.jobs.list()
                client.jobs.list()
    assert told[1:] == [f"{url} is back again"]


@pytest.mark.parametrize("verb", [["watch", JOB], ["watch", RUN], ["results", JOB, "--follow"]])
def test_verbs_that_wait_say_so_at_once(
    penstock: Penstock, verb: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.api.retry_policy.random.uniform", lambda low, high: 0.0)
    run = penstock(*verb, "--url", "http://127.0.0.1:9")
    assert run.err.startswith("cannot reach http://127.0.0.1:9, trying again\n")
    assert run.code == 1


def test_steps_are_of_runs(penstock: Penstock) -> None:
    run = penstock("results", JOB, "--step", "x", "--url", "http://127.0.0.1:9")
    assert run.code == 2
    assert "--step is for runs" in run.err
