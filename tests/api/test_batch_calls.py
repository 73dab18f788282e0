"""What becomes of the requests of one bulk job, told by a server's script."""

import json
from datetime import date
from typing import Any

import httpx2
import numpy
import pytest

from penstock.api.batch_options import BatchOptions
from penstock.api.client import Client
from penstock.api.client_errors import InvalidInput, JobFailed, RowFailed, ServerUnreachable
from penstock.jobs.model import SamplingParams

from .conftest import MODEL, Stack
from .scripted import connect, job_json, page, script

LANDED = {"status": "succeeded", "output": "yes", "model": "m", "finish_reason": "stop"}


def landed(place: int, sample: int = 0) -> dict[str, Any]:
    return {**LANDED, "row_index": place, "sample_index": sample, "custom_id": str(place)}


def ended(status: str, **changes: Any) -> httpx2.Response:
    return httpx2.Response(200, json=job_json(status, **changes))


def test_some_samples_of_a_job_that_did_not_complete_are_no_answer() -> None:
    handler, _ = script(
        httpx2.Response(202, json=job_json("queued")),
        page(landed(0), landed(0, 1), landed(0, 2), landed(1), after=None),
        ended("cancelled", status_reason="asked"),
    )
    with connect(handler) as client, client.batcher(model="m") as batch:
        whole, part, none = (batch.submit("x", n=3) for _ in range(3))
    assert len(whole.result().raw["choices"]) == 3
    for future, says in ((part, "only 1 of 3 samples have run: job job_1 is"), (none, "not run")):
        with pytest.raises(JobFailed, match=says) as raised:
            future.result()
        assert raised.value.status == "cancelled"


def test_each_rejected_row_has_its_reason_beyond_the_first_hundred(stack: Stack) -> None:
    too_deep = json.loads('{"a":' * 70 + "1" + "}" * 70)
    with Client(stack.url) as client:
        with client.batcher(model=MODEL, prompt="{{ row.text }}") as batch:
            good = batch.submit({"text": "x"})
            bad = [batch.submit({"text": too_deep}) for _ in range(103)]
        assert good.result().text
    for future in bad:
        with pytest.raises(RowFailed, match="nested more than"):
            future.result()


def test_a_request_may_hold_what_a_row_may() -> None:
    rows = BatchOptions({"prompt": "{{ row.day }}", "sampling": {"n": numpy.int64(2)}})
    _, request = rows.request({"day": date(2024, 1, 2), "share": numpy.float32(0.5)}, None, {})
    assert json.loads(request.line) == {"day": "2024-01-02", "share": 0.5}
    assert request.num_samples == 2
    by_class = BatchOptions({"prompt": "{{ row.a }}", "sampling": SamplingParams(n=4)})
    assert by_class.request({"a": 1}, None, {})[1].num_samples == 4
    said = {"n": numpy.int8(3), "temperature": numpy.float64(0.5)}
    _, request = BatchOptions({}).request("x", None, said)
    assert json.loads(request.line)["body"] == {
        "messages": [{"role": "user", "content": "x"}],
        "n": 3,
        "temperature": 0.5,
    }
    assert request.num_samples == 3
    with pytest.raises(InvalidInput, match="ask with a text or a list of messages, got NoneType"):
        BatchOptions({}).request(None, None, {})  # pyright: ignore[reportArgumentType]  # the fault
    with pytest.raises(InvalidInput, match="the key 1 is no text"):
        rows.request({"day": {1: "a", "1": "b"}}, None, {})


def test_all_that_a_batcher_says_is_said_with_one_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    calls: list[str] = []

    def tries(*answers: httpx2.Response) -> int:
        left = list(answers)
        calls.clear()

        def handler(request: httpx2.Request) -> httpx2.Response:
            if left:
                return left.pop(0)
            calls.append(request.url.path)
            raise httpx2.ConnectError("away")

        with connect(handler, max_retries=1) as client, client.batcher(model="m") as batch:
            future = batch.submit("x")
        with pytest.raises(ServerUnreachable):
            future.result()
        return len(calls)

    made, nothing = httpx2.Response(202, json=job_json()), page(after="c", incomplete=True)
    counts = {tries(), tries(made), tries(made, nothing), tries(made, page(after=None))}
    assert counts == {31}
