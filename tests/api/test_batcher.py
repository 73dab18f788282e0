"""Requests of threads become bulk jobs, on a real server."""

import asyncio
import json
import math
import threading
from concurrent.futures import CancelledError, Future
from typing import Any

import httpx2
import pytest

from penstock.api.batch_calls import Request, run_requests
from penstock.api.batcher import Batcher
from penstock.api.client import Client
from penstock.api.client_errors import (
    InvalidInput,
    JobFailed,
    PenstockError,
    RowFailed,
    ServerUnreachable,
)
from penstock.api.records import ChatAnswer
from penstock.api.retry_policy import RetryPolicy
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack
from .scripted import connect, job_json, page, parts_of, payload, script

SOON_S = 60.0  # nothing here takes so long, and nothing waits for it


@pytest.fixture
def sdk(stack: Stack) -> Any:
    with Client(stack.url) as client:
        yield client


def jobs_named(client: Client, name: str) -> list[Any]:
    return [job for job in client.jobs.list(limit=100) if job.name == name]


def test_many_requests_are_one_job_and_each_gets_its_own_answer(sdk: Client) -> None:
    with sdk.batcher(model=MODEL, name="one job", max_wait_s=SOON_S) as batch:
        futures = [batch.submit(f"question {n}", max_tokens=1 + n % 3) for n in range(90)]
    for number, future in enumerate(futures):
        answer = future.result(timeout=0)  # the end of the block has waited
        assert answer.usage.completion_tokens == 1 + number % 3
        assert answer.finish_reason == answer.raw["choices"][0]["finish_reason"] == "stop"
        assert answer.text
        assert answer.raw["id"].endswith(f"_{number}")
    [job] = jobs_named(sdk, "one job")
    assert job.counts.succeeded == 90


def test_goes_out_by_count_and_by_time_while_the_block_still_runs(sdk: Client) -> None:
    with sdk.batcher(model=MODEL, name="by count", max_rows=3, max_wait_s=SOON_S) as batch:
        futures = [batch.submit("x", max_tokens=1) for _ in range(6)]
        assert all(future.result(SOON_S).text for future in futures)
    assert sorted(job.counts.total for job in jobs_named(sdk, "by count")) == [3, 3]
    with sdk.batcher(model=MODEL, max_wait_s=0.01) as batch:
        assert batch.submit("x", max_tokens=1).result(SOON_S).text
    with sdk.batcher(model=MODEL, max_wait_s=SOON_S) as batch:
        future = batch.submit("x", max_tokens=1)
        batch.flush()
        assert future.result(SOON_S).text


def test_may_wait_for_company_without_end(sdk: Client) -> None:
    with sdk.batcher(model=MODEL, max_wait_s=math.inf, max_rows=2) as batch:
        pair = [batch.submit("x", max_tokens=1) for _ in range(2)]
        assert all(future.result(SOON_S).text for future in pair)
        last = batch.submit("x", max_tokens=1)
    assert last.result().text


def test_an_answer_may_ask_the_next_question(sdk: Client) -> None:
    """From a thread of the batcher, which must not wait for itself to make room."""
    answers: list[Future[ChatAnswer]] = []
    all_asked = threading.Event()

    def ask_again(future: Future[ChatAnswer]) -> None:
        answers.extend(batch.submit("x", max_tokens=1) for _ in range(9))
        all_asked.set()

    with sdk.batcher(model=MODEL, max_rows=1, max_jobs=1, max_wait_s=0) as batch:
        batch.submit("x", max_tokens=1).add_done_callback(ask_again)
        assert all_asked.wait(SOON_S)
    assert len([future.result().text for future in answers]) == 9


def test_one_request_fails_alone(sdk: Client) -> None:
    with sdk.batcher(model=MODEL, max_wait_s=SOON_S) as batch:
        good = batch.submit("x", max_tokens=1)
        bad = batch.submit([{"role": "user", "content": "x"}], temperature=-1)
        long = batch.submit("x", no_such_option=1)
        also_good = batch.submit("x", max_tokens=2, n=3)
    assert good.result().usage.completion_tokens == 1
    assert [c["index"] for c in also_good.result().raw["choices"]] == [0, 1, 2]
    assert len(also_good.result().texts) == 3
    assert also_good.result().usage.completion_tokens == 6
    for future, says in ((bad, "temperature"), (long, "no_such_option")):
        with pytest.raises(RowFailed, match=says) as raised:
            future.result()
        assert raised.value.code == "invalid_request"
        assert raised.value.job_id.startswith("job_")


def test_a_template_takes_rows(sdk: Client) -> None:
    options: dict[str, Any] = {"model": MODEL, "sampling": {"max_tokens": 2, "n": 2}}
    with sdk.batcher(prompt="Say {{ row.text }} {{ row.custom_id }}", **options) as batch:
        answer = batch.submit({"text": "a", "custom_id": 7})
        plain = batch.submit("b")
        with pytest.raises(InvalidInput, match="'temperature' is said once"):
            batch.submit({"text": "a"}, temperature=1)
        with pytest.raises(InvalidInput, match=r"give a row, as in .* got list"):
            batch.submit([{"role": "user", "content": "x"}])
    assert len(answer.result().raw["choices"]) == 2
    with pytest.raises(RowFailed, match="custom_id"):  # as the template wants it
        plain.result()


def test_what_cannot_be_sent_is_told_at_once(sdk: Client) -> None:
    with sdk.batcher(model=MODEL) as batch:
        with pytest.raises(InvalidInput, match="cannot be written as JSON"):
            batch.submit("x", temperature=math.nan)
        with pytest.raises(InvalidInput, match="does not stream"):
            batch.submit("x", stream=True)
        with pytest.raises(InvalidInput, match="needs a batcher with a template"):
            batch.submit({"text": "x"})
    with pytest.raises(PenstockError, match="closed"):
        batch.submit("x")
    with pytest.raises(TypeError, match="'id' for a batcher"):
        sdk.batcher(id="x")
    with pytest.raises(TypeError, match="promt"):
        sdk.batcher(promt="x")  # pyright: ignore[reportCallIssue]


def test_a_job_that_cannot_be_made_fails_its_requests_and_no_others(sdk: Client) -> None:
    with sdk.batcher(model="nobody-has-this", max_wait_s=0) as batch:
        lost = batch.submit("x")
        found = batch.submit("x", model=MODEL, max_tokens=1)
    with pytest.raises(PenstockError, match="nobody-has-this"):
        lost.result()
    assert found.result().text


def test_a_cancelled_future_is_never_sent(sdk: Client) -> None:
    with sdk.batcher(model=MODEL, name="cancelled", max_wait_s=SOON_S) as batch:
        keep, drop = batch.submit("x", max_tokens=1), batch.submit("x", max_tokens=1)
        assert drop.cancel()
    assert keep.result().text
    with pytest.raises(CancelledError):
        drop.result()
    [job] = jobs_named(sdk, "cancelled")
    assert job.counts.total == 1


def test_an_exception_in_the_block_cancels_what_has_no_answer(
    sdk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.api.batcher._LEAVING_S", SOON_S)
    futures: list[Future[ChatAnswer]] = []
    with (
        pytest.raises(ZeroDivisionError),
        sdk.batcher(model=IDLE_MODEL, name="left", max_rows=1, max_jobs=1) as batch,
    ):
        futures += [batch.submit("x"), batch.submit("x")]
        wait_for(lambda: jobs_named(sdk, "left"), "the job")
        raise ZeroDivisionError
    under_way, waiting = futures
    assert waiting.cancelled()
    with pytest.raises(PenstockError, match="cancelled"):
        under_way.result(timeout=0)
    [job] = jobs_named(sdk, "left")
    assert job.status == "cancelled"


def test_a_job_that_pauses_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    counts = {"total": 2, "pending": 2, "running": 0, "succeeded": 0, "failed": 0}
    paused = httpx2.Response(200, json=job_json("paused", status_reason="asked", counts=counts))
    landed = {"status": "succeeded", "output": "yes", "model": "m", "finish_reason": "stop"}
    handler, calls = script(
        httpx2.Response(202, json=job_json("queued")),
        page(after="c", incomplete=True),
        page(after="c", incomplete=True),
        paused,
        page(after="c", incomplete=True),  # still nothing: somebody has to resume it
        paused,
        page({**landed, "row_index": 0, "custom_id": "0"}, after="d", incomplete=True),
        page({**landed, "row_index": 1, "custom_id": "1"}, after=None),
        httpx2.Response(200, json=job_json("completed")),
    )
    with connect(handler) as client, client.batcher(model="m") as batch:
        futures = [batch.submit("x"), batch.submit("y")]
    assert [future.result().text for future in futures] == ["yes", "yes"]
    assert [call.url.params.get("wait") for call in calls if "wait" in call.url.params] == [
        "0.0",
        "10.0",
    ]
    lines = payload(parts_of(calls[0])["file"]).splitlines()
    assert [json.loads(line)["body"]["messages"][0]["content"] for line in lines] == ["x", "y"]


def test_a_job_that_is_there_when_nobody_wants_it_any_more_is_cancelled() -> None:
    talk = run_requests(
        [Request(b'{"body":{}}')],
        {"model": "m"},
        RetryPolicy(),
        is_wanted=lambda record: False,
        on_outcome=lambda place, outcome: pytest.fail("nobody wants that"),
    )
    assert next(talk).path == "/v1/jobs"
    assert talk.send(httpx2.Response(202, json=job_json())).path == "/v1/jobs/job_1/cancel"
    with pytest.raises(StopIteration):
        talk.send(httpx2.Response(200, json=job_json("cancelled")))


def test_a_job_cancelled_by_others_tells_so(sdk: Client) -> None:
    with sdk.batcher(model=IDLE_MODEL, name="steered", max_wait_s=0) as batch:
        future = batch.submit("x")
        [job] = wait_for(lambda: jobs_named(sdk, "steered"), "the job")
        job.cancel()
        with pytest.raises(JobFailed, match=r"not run: job .* is cancelled") as raised:
            future.result(SOON_S)
        assert raised.value.status == "cancelled"


def test_a_loop_over_millions_waits_for_room(sdk: Client) -> None:
    """With all jobs taken, no more is held than two jobs' worth."""
    batch = sdk.batcher(model=IDLE_MODEL, name="room", max_rows=2, max_jobs=1, max_wait_s=0)
    taken: list[Future[ChatAnswer]] = []

    def submit_for_ever() -> None:
        with pytest.raises(PenstockError, match="closed"):
            while True:
                taken.append(batch.submit("x"))

    thread = threading.Thread(target=submit_for_ever)
    thread.start()
    wait_for(lambda: jobs_named(sdk, "room") and batch.num_waiting == 4, "it to be full")
    wait_for(lambda: len(taken) >= 5, "what has room to be taken")
    assert len(taken) <= 6  # with those of the one job
    batch.__exit__(KeyError, KeyError("x"), None)
    thread.join(SOON_S)
    assert not thread.is_alive()
    assert all(future.done() for future in taken)


def test_works_inside_a_running_loop(sdk: Client) -> None:
    async def ask() -> list[ChatAnswer]:
        with sdk.batcher(model=MODEL, max_wait_s=0.01) as batch:
            futures = [asyncio.wrap_future(batch.submit("x", max_tokens=1)) for _ in range(5)]
            return await asyncio.gather(*futures)

    assert len(asyncio.run(ask())) == 5


def test_looks_like_openais_client(sdk: Client) -> None:
    from openai.types.chat import ChatCompletion

    with sdk.batcher(model=MODEL, max_wait_s=0) as batch:
        messages = [{"role": "user", "content": "x"}]
        answer = batch.chat.completions.create(messages=messages, max_tokens=3, logprobs=True)
        assert isinstance(answer, ChatCompletion)
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert len(logprobs.content or []) == 3
        assert batch.chat("x", max_tokens=1).text


class Flaky(httpx2.BaseTransport):
    """A server that is away for the first so many calls, or whose first answer is lost."""

    def __init__(self, num_away: int, loses: str = "") -> None:
        self.num_away = num_away
        self.loses = loses
        self.keys: list[str] = []
        self._real = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.num_away:
            self.num_away -= 1
            raise httpx2.ConnectError("refused", request=request)
        response = self._real.handle_request(request)
        if request.method == "POST":
            self.keys.append(request.headers["idempotency-key"])
            if self.loses:
                self.loses = ""
                response.read()
                response.close()
                raise httpx2.ReadError("cut", request=request)
        return response

    def close(self) -> None:
        self._real.close()


@pytest.mark.parametrize(("num_away", "loses"), [(9, ""), (0, "the answer")])
def test_bears_a_server_that_is_away_and_makes_no_job_twice(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, num_away: int, loses: str
) -> None:
    monkeypatch.setattr("penstock.api.retry_policy.random.uniform", lambda low, high: 0.01)
    transport, name = Flaky(num_away, loses), f"flaky {num_away}"
    with Client(stack.url, max_retries=1, transport=transport) as client:
        with client.batcher(model=MODEL, name=name, max_wait_s=SOON_S) as batch:
            futures = [batch.submit("x", max_tokens=1) for _ in range(3)]
        assert all(future.result().text for future in futures)
        assert len(set(transport.keys)) == 1
        assert len(transport.keys) == (2 if loses else 1)
        assert len(jobs_named(client, name)) == 1


def test_a_server_that_stays_away_fails_the_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    refused = httpx2.MockTransport(lambda request: _refuse(request))
    with (
        Client("http://test", transport=refused) as client,
        client.batcher(model="m") as batch,
    ):
        future = batch.submit("x")
    with pytest.raises(ServerUnreachable, match="refused"):
        future.result()


def _refuse(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused", request=request)


def test_a_fault_that_nobody_foresaw_reaches_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    with (
        Client("http://test", transport=httpx2.MockTransport(_break)) as client,
        client.batcher(model="m") as batch,
    ):
        assert isinstance(batch, Batcher)
        future = batch.submit("x")
    with pytest.raises(PenstockError, match="could not be followed: RuntimeError: no"):
        future.result()
    assert "could not be followed" in caplog.text


def _break(request: httpx2.Request) -> httpx2.Response:
    raise RuntimeError("no")
