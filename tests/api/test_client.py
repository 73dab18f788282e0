"""The client against the REST contract, through an in-process transport: no server, no clock."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client_errors import (
    BadRequest,
    Conflict,
    InvalidInput,
    JobFailed,
    JobPaused,
    NotFound,
    PenstockError,
    ServerUnreachable,
    Unavailable,
    WaitTimedOut,
)
from penstock.api.records import JobRecord

from .scripted import connect, job_json, parts_of, payload, refusal, script


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Write pauses down instead of making them."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


class TestSubmit:
    def test_sends_what_was_said_and_the_rows(self) -> None:
        handler, calls = script(
            httpx2.Response(
                202,
                json=job_json(
                    "queued", rejected={"count": 1, "errors": [{"line": 3, "message": "bad"}]}
                ),
            )
        )
        job = connect(handler).jobs.submit(
            [{"id": "a", "text": "é\u2028"}, {"id": "b", "text": "y"}],
            model="m",
            prompt="{{ row.text }}",
            sampling={"max_tokens": 3},
            id="id",
            output="~/out",
        )
        parts = parts_of(calls[0])
        assert json.loads(payload(parts["request"])) == {
            "model": "m",
            "prompt": "{{ row.text }}",
            "sampling": {"max_tokens": 3},
            "id": "id",
            "output": {"path": "~/out"},  # the server's home
        }
        assert parts["file"].get_filename() == "rows.jsonl"
        lines = payload(parts["file"]).split(b"\n")
        assert [json.loads(line) for line in lines if line] == [
            {"id": "a", "text": "é\u2028"},
            {"id": "b", "text": "y"},
        ]
        assert (job.id, job.status, job.counts.succeeded) == ("job_1", "queued", 2)
        assert [(line.line, line.message) for line in job.rejected] == [(3, "bad")]

    def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_all_rows(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "in.csv"
        file.write_text("id,text\n1,x\n")
        handler, calls = script(
            httpx2.ReadError("cut"), refusal(503), httpx2.Response(202, json=job_json())
        )
        connect(handler).jobs.submit(file, prompt="p")
        assert len({call.headers["idempotency-key"] for call in calls}) == 1
        for call in calls:
            part = parts_of(call)["file"]
            assert (part.get_filename(), payload(part)) == ("in.csv", b"id,text\n1,x\n")

    def test_rows_in_an_object_store_are_named_and_not_sent(self) -> None:
        sent: list[httpx2.Request] = []

        def handler(request: httpx2.Request) -> httpx2.Response:
            sent.append(request)
            return httpx2.Response(202, json=job_json("queued"))

        with connect(handler) as client:
            client.jobs.submit("s3://bucket/rows.parquet", model="m", output="s3://bucket/out")
        assert sent[0].headers["content-type"] == "application/json"
        assert json.loads(sent[0].content) == {
            "model": "m",
            "input": {"path": "s3://bucket/rows.parquet"},
            "output": {"path": "s3://bucket/out"},
        }

    def test_two_submits_have_two_keys_unless_one_is_given(self) -> None:
        handler, calls = script(*(httpx2.Response(202, json=job_json()) for _ in range(4)))
        with connect(handler) as client:
            for key in (None, None, "k", "k"):
                client.jobs.submit([{"a": 1}], prompt="p", idempotency_key=key)
        keys = [call.headers["idempotency-key"] for call in calls]
        assert keys[0] != keys[1]
        assert keys[2:] == ["k", "k"]

    def test_takes_data_frames_as_parquet(self) -> None:
        handler, calls = script(httpx2.Response(202, json=job_json()))
        frame = pandas.DataFrame({"id": [1, 2], "text": ["x", None]})
        connect(handler).jobs.submit(frame, prompt="p")
        part = parts_of(calls[0])["file"]
        assert part.get_filename() == "rows.parquet"
        table = pq.read_table(pa.BufferReader(payload(part)))
        assert table.to_pydict() == {"id": [1, 2], "text": ["x", None]}

    @pytest.mark.parametrize(
        ("rows", "says"),
        [
            ([], "no rows"),
            ([{"x": 1}, {"x": float("nan")}], "row 1"),
            ([{"x": object()}], "row 0"),
            (["text"], "row 0 must be a mapping, got str"),
            ("missing.jsonl", r"cannot read missing\.jsonl: No such file"),
        ],
    )
    def test_names_the_row_that_cannot_be_sent(self, rows: Any, says: str) -> None:
        handler, calls = script()
        with pytest.raises(InvalidInput, match=says):
            connect(handler).jobs.submit(rows, prompt="p")
        assert calls == []

    def test_refuses_an_option_nobody_knows(self) -> None:
        handler, _ = script()
        with pytest.raises(TypeError, match="promt"):
            connect(handler).jobs.submit([{"a": 1}], promt="x")  # pyright: ignore


def test_a_moment_that_no_calendar_shows_does_not_hide_the_job() -> None:
    moments: dict[str, Any] = {"deadline": 253402387139, "created_at": -(10**15)}
    page = {"data": [job_json(**moments), job_json()], "has_more": False}
    handler, _ = script(httpx2.Response(200, json=page))
    with connect(handler) as client:
        odd, plain = client.jobs.list()
    assert (odd.record.deadline, odd.created_at) == (None, None)
    assert plain.created_at == datetime.fromtimestamp(1_700_000_000, UTC)


def test_a_job_removes_itself() -> None:
    handler, calls = script(*(httpx2.Response(200, json=job_json("completed")) for _ in range(4)))
    connect(handler).jobs.get("job_1").delete()

    async def remove() -> None:
        transport = httpx2.MockTransport(handler)
        async with AsyncClient("http://test", transport=transport) as client:
            await (await client.jobs.get("job_1")).delete()

    asyncio.run(remove())
    asked = [(call.method, call.url.path) for call in calls]
    assert asked == [("GET", "/v1/jobs/job_1"), ("DELETE", "/v1/jobs/job_1")] * 2


class TestRetries:
    def test_honours_retry_after(self, no_sleep: list[float]) -> None:
        handler, _ = script(
            refusal(429, {"retry-after": "3"}),
            refusal(503, {"retry-after-ms": "1500"}),
            httpx2.Response(200, json=job_json()),
        )
        assert connect(handler).jobs.get("job_1").id == "job_1"
        assert no_sleep == [0, 3.0, 1.5]

    def test_x_should_retry_outranks_the_status(self) -> None:
        handler, calls = script(refusal(503, {"x-should-retry": "false"}))
        with pytest.raises(Unavailable):
            connect(handler).jobs.get("job_1")
        assert len(calls) == 1
        handler, calls = script(
            refusal(409, {"x-should-retry": "true"}), httpx2.Response(200, json=job_json())
        )
        connect(handler).jobs.cancel("job_1")
        assert len(calls) == 2

    def test_gives_up_with_the_last_refusal(self) -> None:
        handler, calls = script(*(refusal(500) for _ in range(3)))
        with pytest.raises(PenstockError):
            connect(handler, max_retries=2).jobs.get("job_1")
        assert len(calls) == 3

    def test_back_off_grows_and_is_bounded(self, no_sleep: list[float]) -> None:
        handler, _ = script(*(httpx2.ConnectError("refused") for _ in range(9)))
        with pytest.raises(ServerUnreachable, match=r"http://test: refused"):
            connect(handler, max_retries=8).jobs.get("job_1")
        assert len(no_sleep) == 9
        assert all(0 <= pause <= 8 for pause in no_sleep)

    def test_a_server_that_asks_for_an_hour_is_a_no(self, no_sleep: list[float]) -> None:
        handler, _ = script(refusal(503, {"retry-after": "3600"}))
        with pytest.raises(Unavailable):
            connect(handler).jobs.get("job_1")
        assert no_sleep == [0]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadRequest), (404, NotFound), (409, Conflict), (418, PenstockError)]
)
def test_every_status_has_its_class(status: int, kind: type[Exception]) -> None:
    handler, _ = script(refusal(status, message="no such thing", code="c", param="p"))
    with pytest.raises(kind, match=rf"no such thing \(HTTP {status}, request req_9\)") as caught:
        connect(handler).jobs.get("job_1")
    assert (getattr(caught.value, "code", None), getattr(caught.value, "param", None)) == ("c", "p")


def test_words_of_a_proxy_become_the_message() -> None:
    handler, _ = script(httpx2.Response(404, text="nginx: no such site"))
    with pytest.raises(NotFound, match="nginx: no such site"):
        connect(handler).jobs.get("job_1")


def test_a_page_of_another_server_is_not_shown_but_named() -> None:
    handler, _ = script(httpx2.Response(404, html="<html>\n<h1>Error response</h1>"))
    with pytest.raises(NotFound) as caught:
        connect(handler).jobs.list()
    assert str(caught.value) == (
        "no Penstock answers at http://test: what does, or a proxy before it, sent a page "
        "(text/html) (HTTP 404)"
    )


class TestWaiting:
    def test_to_the_end_through_a_server_that_is_away_for_a_while(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            httpx2.Response(200, json=job_json()),
            *(httpx2.ConnectError("refused") for _ in range(5)),
            httpx2.Response(200, json=job_json("completed")),
        )
        client = connect(handler)
        assert client.jobs.get("job_1").wait().status == "completed"
        assert "wait" not in calls[1].url.params  # the first look is at once
        assert float(calls[-1].url.params["wait"]) == 10
        assert [call.url.params.get("seen") for call in calls[1:]] == [None] + ["running"] * 6

    def test_a_failed_job_raises(self) -> None:
        failed = job_json("failed", error={"message": "the model is gone"})
        handler, _ = script(
            httpx2.Response(200, json=job_json()), httpx2.Response(200, json=failed)
        )
        with pytest.raises(JobFailed, match="the model is gone"):
            connect(handler).jobs.get("job_1").wait()

    def test_in_vain(self) -> None:
        handler, _ = script(*(httpx2.Response(200, json=job_json()) for _ in range(3)))
        with pytest.raises(WaitTimedOut, match="after 0 s"):
            connect(handler).jobs.get("job_1").wait(timeout_s=0)

    def test_in_vain_for_a_job_that_pauses(self) -> None:
        paused = job_json("paused", status_reason="paused_by_user: nothing more is begun")
        handler, _ = script(*(httpx2.Response(200, json=paused) for _ in range(3)))
        with pytest.raises(WaitTimedOut, match=r"after 0 s; it pauses .paused_by_user"):
            connect(handler).jobs.get("job_1").wait(timeout_s=0)

    def test_a_pause_that_only_somebody_ends_is_not_waited_for(self) -> None:
        def paused(why: str, running: int) -> httpx2.Response:
            counts = {"total": 4, "failed": 2, "running": running}
            return httpx2.Response(200, json=job_json("paused", status_reason=why, counts=counts))

        handler, calls = script(
            paused("error_rate: 2 of 2 rows failed", running=1),  # it may yet land
            paused("storage_full: there is no room", running=0),  # it ends by itself
            paused("error_rate: 2 of 2 rows failed", running=0),
            paused("error_rate: 2 of 2 rows failed", running=0),
            httpx2.Response(200, json=job_json("completed")),
        )
        job = connect(handler).jobs.get("job_1")
        with pytest.raises(JobPaused, match=r"job_1 pauses \(error_rate: 2 of 2 rows failed\)"):
            job.wait()
        assert len(calls) == 3
        assert job.status == "paused"
        assert job.wait(through_pauses=True).status == "completed"

    def test_progress_goes_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        handler, _ = script(
            *(httpx2.Response(200, json=job_json(s)) for s in ("running", "completed"))
        )
        connect(handler).jobs.get("job_1").wait(progress=True)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "job_1 completed 2/4 rows" in printed.err

    def test_what_was_seen_last_is_kept_by_who_waits_in_vain(self) -> None:
        later = job_json(counts={"total": 4, "succeeded": 3})
        handler, _ = script(*(httpx2.Response(200, json=said) for said in (job_json(), later)))
        job = connect(handler).jobs.get("job_1")
        with pytest.raises(WaitTimedOut):
            job.wait(timeout_s=0)
        assert job.counts.succeeded == 3

    def test_what_was_seen_last_is_kept_by_who_is_interrupted(self) -> None:
        def leave(record: JobRecord) -> None:
            raise KeyboardInterrupt

        async def wait() -> None:
            handler, _ = script(
                *(httpx2.Response(200, json=job_json(s)) for s in ("queued", "running"))
            )
            transport = httpx2.MockTransport(handler)
            async with AsyncClient("http://test", transport=transport) as client:
                job = await client.jobs.get("job_1")
                with pytest.raises(KeyboardInterrupt):
                    await job.wait(on_look=leave)
                assert job.status == "running"

        asyncio.run(wait())


def test_lines_that_were_rejected_stay_known() -> None:
    line = {"line": 3, "message": "bad"}
    counts = {"total": 3, "succeeded": 1, "failed": 1, "rejected": 2}
    handler, _ = script(
        httpx2.Response(202, json=job_json("queued", rejected={"count": 2, "errors": [line] * 2})),
        *(httpx2.Response(200, json=job_json("completed", counts=counts)) for _ in range(2)),
    )
    job = connect(handler).jobs.submit([{"a": 1}] * 5, prompt="p")
    assert [bad.line for bad in job.rejected] == [3, 3]
    assert len(job.wait().rejected) == len(job.refresh().rejected) == 2
    assert repr(job) == "<Job job_1 completed 2/3 rows, 1 failed, 2 lines rejected>"
    assert "2 lines" in job._repr_html_()
