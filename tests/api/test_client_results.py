"""How the client reads rows, errors and events, wherever the connection breaks."""

from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.client_errors import BadRequest, JobPaused, MissingPackage

from .scripted import connect, job_json, page, refusal, script, table_page


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Write pauses down instead of making them."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


class TestResults:
    def test_page_by_page(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json("completed")),
            page({"row_index": 0, "status": "succeeded", "output": "a\u2028b"}, after="c1"),
            page({"row_index": 1, "status": "failed", "error": {"code": "x"}}, after=None),
        )
        rows = list(connect(handler).jobs.get("job_1").results(page_rows=1))
        assert [row.ok for row in rows] == [True, False]
        assert rows[0].output == "a\u2028b"
        assert rows[1].error == {"code": "x"}
        assert [call.url.params.get("after") for call in calls[1:]] == [None, "c1"]

    def test_a_server_that_is_away_for_a_while_is_borne(self) -> None:
        away = [httpx2.ConnectError("refused") for _ in range(12)]
        handler, _ = script(
            httpx2.Response(200, json=job_json("completed")),
            page({"row_index": 0}, after="c1"),
            *away,
            page({"row_index": 1}, after=None),
        )
        rows = connect(handler).jobs.get("job_1").results()
        assert [row["row_index"] for row in rows] == [0, 1]

    def test_follow_waits_for_rows_that_have_not_landed(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            page({"row_index": 0}, after="c1", incomplete=True),
            page(after="c1", incomplete=True),
            httpx2.Response(200, json=job_json()),
            page({"row_index": 1}, after=None),
        )
        rows = list(connect(handler).jobs.get("job_1").results())
        assert [row["row_index"] for row in rows] == [0, 1]
        assert calls[-1].url.params["after"] == "c1"

    def test_follow_ends_when_a_job_ended_early(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            page({"row_index": 0}, after="c1", incomplete=True),
            page(after="c2", incomplete=True),
            page(after="c2", incomplete=True),
            httpx2.Response(200, json=job_json("cancelled")),
            page({"row_index": 1}, after=None),
        )
        rows = list(connect(handler).jobs.get("job_1").results())
        assert [row["row_index"] for row in rows] == [0, 1]
        assert calls[-1].url.params["after"] == "c2"

    def test_a_paused_job_is_named_once_its_rows_are_given(self) -> None:
        counts = {"total": 4, "pending": 3, "running": 0, "succeeded": 1, "failed": 0}
        paused = job_json("paused", counts=counts, status_reason="error_rate: 9 of 9 rows failed")
        landing = job_json("paused", status_reason="error_rate: 9 of 9 rows failed")
        blocked = job_json("paused", counts=counts, status_reason="storage_full: no room")
        looks = [blocked, landing, paused]
        nothing = page(after="c1", incomplete=True)
        handler, calls = script(
            httpx2.Response(200, json=paused),
            page({"row_index": 0}, after="c1", incomplete=True),
            *(each for job in looks for each in (nothing, httpx2.Response(200, json=job))),
            nothing,
        )
        rows = connect(handler).jobs.get("job_1").results()
        assert next(rows)["row_index"] == 0
        with pytest.raises(JobPaused, match=r"error_rate: 9 of 9 .* follow=False"):
            next(rows)
        waits = [call.url.params.get("wait") for call in calls[3::2]]
        assert waits == ["0.0", "10.0", "10.0"], "it is told of a pause at once"

    def test_what_has_landed_is_given_without_follow(self) -> None:
        handler, _ = script(
            httpx2.Response(200, json=job_json("paused")),
            table_page(pa.table({"row_index": [0]}), after="c1", incomplete=True),
            table_page(pa.table({"row_index": pa.array([], "int64")}), after="c1", incomplete=True),
        )
        assert connect(handler).jobs.get("job_1").to_arrow(follow=False).num_rows == 1

    def test_without_follow_it_ends_at_once(self) -> None:
        empty = page(after="c0", incomplete=True)
        handler, _ = script(httpx2.Response(200, json=job_json()), empty, empty)
        assert list(connect(handler).jobs.get("job_1").results(follow=False)) == []

    @pytest.mark.parametrize("follow", [True, False])
    def test_an_empty_page_that_leads_on_is_not_the_end(self, follow: bool) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json("completed")),
            page(after="c1"),
            page({"row_index": 9, "status": "failed"}, after=None),
        )
        rows = connect(handler).jobs.get("job_1").results(status="failed", follow=follow)
        assert [row["row_index"] for row in rows] == [9]
        assert calls[-1].url.params["after"] == "c1"

    def test_data_frames_over_the_wire_and_from_disk(self, tmp_path: Path) -> None:
        done = httpx2.Response(200, json=job_json("completed"))
        handler, _ = script(
            done, table_page(pa.table({"row_index": [0], "output": ["a"]}), after=None)
        )
        frame = connect(handler).jobs.get("job_1").to_pandas()
        assert frame.to_dict("records") == [{"row_index": 0, "output": "a"}]

        (tmp_path / "rows").mkdir()
        for index in (1, 0):
            table = pa.table({"row_index": [index]})
            pq.write_table(table, tmp_path / "rows" / f"part-{index:06}.parquet")
        (tmp_path / "_SUCCESS").touch()
        local = job_json("completed", output={"path": str(tmp_path)})
        handler, calls = script(httpx2.Response(200, json=local))
        table = connect(handler).jobs.get("job_1").to_arrow()
        assert table.column("row_index").to_pylist() == [0, 1]
        assert len(calls) == 1

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "polars", None)
        handler, _ = script(
            httpx2.Response(200, json=job_json("completed")),
            table_page(pa.table({"a": [1]}), after=None),
        )
        with pytest.raises(MissingPackage, match="to_polars needs polars: pip install polars"):
            connect(handler).jobs.get("job_1").to_polars()


def test_events_go_on_where_the_connection_broke() -> None:
    sse = {"content-type": "text/event-stream"}
    silent = ": hello\nretry: 500\n\nretry: 500\n\n"
    first = 'id: 1-0\nevent: job.progress\ndata: {"done": 1}\n\n: ping\n\n'
    broken_off = 'id: 9-9\nevent: error\ndata: {"error": "the disk is gone"}\n\n'
    second = 'id: 2-0\nevent: done\ndata: {"status": "completed"}\n\n'
    behind_it = "id: 3-0\nevent: job.progress\n\n"
    handler, calls = script(
        httpx2.Response(200, json=job_json()),
        httpx2.Response(200, text=silent + first, headers=sse),
        httpx2.Response(200, text=broken_off, headers=sse),
        httpx2.Response(200, text=second + behind_it, headers=sse),
    )
    events = list(connect(handler).jobs.get("job_1").events())
    assert [(event.id, event.kind) for event in events] == [
        ("1-0", "job.progress"),
        ("2-0", "done"),
    ]
    assert calls[1].headers.get("last-event-id") is None
    assert calls[2].headers["last-event-id"] == "1-0"
    assert calls[3].headers["last-event-id"] == "1-0"


def test_all_errors_are_told_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.job_errors._AT_ONCE", 2)
    line = {"line": 3, "message": "no JSON"}
    failed = [{"row_index": n, "error": {"code": "x"}} for n in range(3)]
    handler, calls = script(
        httpx2.Response(200, json=job_json("completed_with_errors")),
        httpx2.Response(200, json={"data": [line, *failed[:2]], "has_more": True}),
        page(*failed[:2], after="c1"),
        page(after="c2"),  # a page of rows that succeeded
        page(failed[2], after=None),
        httpx2.Response(200, json={"data": [line, failed[0]], "has_more": True}),
    )
    job = connect(handler).jobs.get("job_1")
    assert job.errors() == [line, *failed]
    assert calls[2].url.params.get_list("columns")[0] == "row_index"
    assert calls[2].url.params["status"] == "failed"
    assert job.errors(limit=1) == [line, failed[0]]
    assert calls[-1].url.params["limit"] == "1"


def test_errors_come_while_others_are_still_to_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.job_errors._AT_ONCE", 2)
    failed = [{"row_index": n, "error": {"code": "x"}} for n in range(6)]
    handler, calls = script(
        httpx2.Response(200, json=job_json("completed_with_errors")),
        httpx2.Response(200, json={"data": failed[:2], "has_more": True}),
        page(*failed[:2], after="c1"),
        page(*failed[2:4], after="c2"),
    )
    found = connect(handler).jobs.get("job_1").iter_errors()
    assert [next(found) for _ in range(4)] == failed[:4]
    assert len(calls) == 4, "the rest has not been asked for"


def test_no_errors_are_wanted_where_none_are() -> None:
    handler, calls = script(
        httpx2.Response(200, json=job_json("completed_with_errors")),
        refusal(400, message="limit must be at least 1"),
    )
    with pytest.raises(BadRequest, match="limit must be at least 1"):
        connect(handler).jobs.get("job_1").errors(limit=0)
    assert calls[-1].url.params["limit"] == "0"
