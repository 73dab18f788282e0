"""What rows may come from: each is sent whole, streamed as it is read, and again if it must be."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import datasets
import duckdb
import httpx2
import numpy
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import InvalidInput, MissingPackage, ServerUnreachable

from .conftest import MODEL, Stack
from .scripted import connect, job_json, parts_of, payload, refusal, script, sent_file


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.connection.time.sleep", lambda seconds: None)


def table_sent(rows: Any) -> pa.Table:
    return pq.read_table(pa.BufferReader(sent_file(rows)))


TABLE = pa.table({"id": [1, 2, 3], "text": ["x", None, "z"], "day": [date(2024, 1, 2)] * 3})
FRAME: polars.DataFrame = polars.DataFrame(TABLE)
MAKES: dict[str, Callable[[], Any]] = {
    "pyarrow": lambda: TABLE,
    "a reader": lambda: TABLE.to_reader(max_chunksize=1),
    "a batch": lambda: TABLE.to_batches()[0],
    "pandas": lambda: TABLE.to_pandas(date_as_object=True),
    "polars": lambda: FRAME,
    "lazy polars": FRAME.lazy,
    "DuckDB": lambda: duckdb.from_arrow(TABLE),
    "datasets": lambda: datasets.Dataset(TABLE),
    "some of datasets": lambda: datasets.Dataset(pa.concat_tables([TABLE] * 2)).select([3, 4, 5]),
    "streamed datasets": lambda: datasets.Dataset(TABLE).to_iterable_dataset(),
}  # fmt: skip


@pytest.mark.parametrize("make", MAKES)
def test_tables_of_every_make_are_sent_as_they_are(make: str) -> None:
    found = table_sent(MAKES[make]())
    assert found.column_names == TABLE.column_names
    assert found.cast(TABLE.schema).equals(TABLE)


def test_a_data_set_that_nobody_has_described_is_sent_row_by_row() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        yield {"a": None}

    stream = datasets.IterableDataset.from_generator(rows)
    assert [json.loads(line) for line in sent_file(stream).splitlines()] == [{"a": 1}, {"a": None}]


def test_an_index_is_a_column_unless_it_only_counts() -> None:
    frame = pandas.DataFrame({"a": [1, 2]}, index=[5, 7])
    assert table_sent(frame).to_pydict() == {"a": [1, 2], "__index_level_0__": [5, 7]}
    assert table_sent(frame.rename_axis("key")).to_pydict() == {"key": [5, 7], "a": [1, 2]}
    assert table_sent(frame.rename_axis("a")).to_pydict()["__index_level_0__"] == [5, 7]
    assert table_sent(frame.reset_index(drop=True)).column_names == ["a"]
    assert table_sent(frame.set_axis([0, 1])).column_names == ["a"]
    two = frame.set_index(pandas.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None]))
    assert table_sent(two).column_names == ["a", "k", "__index_level_1__"]


def test_an_index_that_cannot_be_sent_is_named() -> None:
    frame = pandas.DataFrame({"a": [1, 2]}, index=[5, "total"])
    with pytest.raises(InvalidInput, match=r"leave it out with frame.reset_index\(drop=True\)"):
        sent_file(frame)


def test_small_tables_become_one_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.arrow_files._GROUP_ROWS", 10)
    reader = pa.table({"a": list(range(35))}).to_reader(max_chunksize=2)
    file = pq.ParquetFile(pa.BufferReader(sent_file(reader)))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10] * 3 + [
        5
    ]
    assert file.read().column("a").to_pylist() == list(range(35))


def test_values_that_json_has_no_word_for() -> None:
    row = {
        "at": datetime(2024, 1, 2, 3, tzinfo=UTC),
        "day": date(2024, 1, 2),
        "hour": time(4),
        "price": Decimal("1.50"),
        "key": UUID(int=1),
        "small": numpy.int8(3),
        "half": numpy.float32(0.5),
        "yes": numpy.bool_(True),
        "vector": numpy.array([[1, 2], [3, 4]]),
        "deep": [{"day": date(2024, 1, 2)}],
    }
    assert json.loads(sent_file([row])) == {
        "at": "2024-01-02T03:00:00+00:00",
        "day": "2024-01-02",
        "hour": "04:00:00",
        "price": "1.50",
        "key": "00000000-0000-0000-0000-000000000001",
        "small": 3,
        "half": 0.5,
        "yes": True,
        "vector": [[1, 2], [3, 4]],
        "deep": [{"day": "2024-01-02"}],
    }


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"a": 1}, {"a": 1, "b": float("nan")}], "row 1, column 'b', .* nan is no number there"),
        ([{"a": float("inf")}], "row 0, column 'a', .* inf is no number"),
        ([{"a": numpy.float32("nan")}], "row 0, column 'a', .* send None"),
        ([{"at": pandas.NaT}], "row 0, column 'at', .* NaT is no moment; send None"),
        ([{"a": pandas.NA}], "row 0, column 'a', .* a NAType has no form"),
        ([{"a": b"x"}], r"row 0, column 'a', .* base64\.b64encode"),
        ([{"a": object()}], "row 0, column 'a', .* a object has no form"),
        ([{"a": 1}, {1: "a", "1": "b"}], "row 1, column '1', .* the key 1 is no text; send '1'"),
        ([{"a": [{"b": {True: 1}}]}], "row 0, column 'a', .* the key True is no text"),
        ([{"a": MappingProxyType({2.5: 1})}], "row 0, column 'a', .* the key 2.5 is no text"),
        ({"a": [1]}, "got dict"),
        (b"rows", "got bytes"),
        (7, "got int"),
        (pandas.DataFrame({"a": [1, "b"]}), r"row 1, column 'a', holds a str .* frame\['a'\]\.as"),
        (pandas.DataFrame({"a": [0.5, float("inf")]}), "row 1, column 'a', is infinite"),
        (pandas.DataFrame({"a": pandas.period_range("2024", periods=1)}), "column 'a' is .*period"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'"),
        (pandas.Series([1]), "got a Series"),
        (polars.Series("a", [1]), "cannot read a Series as a table"),
        (pa.table({"a": [[b"x"]]}), "column 'a' holds bytes inside of lists"),
        (TABLE.slice(0, 0), "no rows"),
        (datasets.DatasetDict({"train": datasets.Dataset(TABLE)}), "pass one split .* 'train'"),
        ("hf://models/x/y", "must look like hf://datasets/<org>/<name>"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_named_with_what_to_do(rows: Any, says: str) -> None:
    handler, calls = script()
    with pytest.raises(InvalidInput, match=says):
        connect(handler).jobs.submit(rows, prompt="p")
    assert calls == []


_PEAK = """
from tests.jobs.memory import peak_growth_mb
from penstock.api.open_inputs import open_upload

def send(num_rows):
    with open_upload({"text": "x" * 200} for _ in range(num_rows)) as upload:
        upload.rewind()
        assert sum(map(len, upload.pieces())) == 213 * num_rows

print(peak_growth_mb(lambda: send(1_000)), peak_growth_mb(lambda: send(400_000)))
"""


class Numbered:
    """Rows that can be had once, and where they are read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.num_read = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            self.num_read += 1
            yield {"number": number, "text": "x" * 100}

    async def slowly(self) -> AsyncIterator[dict[str, Any]]:
        for row in self:
            await asyncio.sleep(0)
            yield row


def numbers(request: httpx2.Request) -> list[int]:
    lines = payload(parts_of(request)["file"]).splitlines()
    return [json.loads(line)["number"] for line in lines]


class CutOff(httpx2.BaseTransport):
    """A connection that breaks in the midst of the first upload; later ones are answered."""

    def __init__(self, rows: Numbered, *answers: httpx2.Response) -> None:
        handler, self.calls = script(*answers)
        self.num_read_at_the_cut = 0
        self._rows = rows
        self._later = httpx2.MockTransport(handler)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.num_read_at_the_cut:
            return self._later.handle_request(request)
        assert isinstance(request.stream, httpx2.SyncByteStream)
        num_bytes = 0
        for piece in request.stream:
            num_bytes += len(piece)
            if num_bytes > 200_000:
                self.num_read_at_the_cut = self._rows.num_read
                assert request.headers["transfer-encoding"] == "chunked"
                raise httpx2.WriteError("cut")
        raise AssertionError("all was sent before the cut")


def test_rows_are_read_as_they_are_sent_and_a_broken_upload_loses_none() -> None:
    rows = Numbered(5_000)
    server = CutOff(rows, refusal(503), httpx2.Response(202, json=job_json()))
    Client("http://test", transport=server).jobs.submit(iter(rows), prompt="p")
    assert 0 < server.num_read_at_the_cut < 5_000, "it was read whole before it was sent"
    assert [numbers(call) for call in server.calls] == [list(range(5_000))] * 2
    assert len({call.headers["idempotency-key"] for call in server.calls}) == 1
    assert all("content-length" in call.headers for call in server.calls), "by then it is known"


def test_many_rows_take_no_more_memory_than_a_few() -> None:
    """In a process of its own: what tests before it have freed would hide what it takes."""
    told = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    few_mb, many_mb = map(float, told.stdout.split())
    assert many_mb < few_mb + 24, "more than what is kept in memory before it goes to disk"


def test_what_the_rows_raise_is_told_and_nothing_is_asked_again() -> None:
    class Broken(httpx2.ReadError):
        """Looks as if the connection were at fault."""

    def rows() -> Iterator[dict[str, Any]]:
        yield from Numbered(3_000)
        raise Broken("the source is gone")

    handler, calls = script(httpx2.Response(202, json=job_json()))
    with pytest.raises(Broken, match="the source is gone"):
        connect(handler).jobs.submit(rows(), prompt="p")
    assert calls == []


def test_rows_that_come_asynchronously_need_the_client_for_that() -> None:
    handler, _ = script()
    with pytest.raises(InvalidInput, match="need an AsyncClient"):
        rows: Any = Numbered(1).slowly()  # its type says so as well
        connect(handler).jobs.submit(rows, prompt="p")


@pytest.mark.parametrize("kind", ["asynchronous", "plain", "table", "path"])
def test_the_twin_for_asyncio_sends_the_same_to_a_real_server(
    stack: Stack, kind: str, tmp_path: Path
) -> None:
    rows = Numbered(1_500)
    (tmp_path / "in.jsonl").write_bytes(sent_file(Numbered(1_500)))
    given: Any = {
        "asynchronous": rows.slowly(),
        "plain": iter(rows),
        "table": polars.DataFrame({"number": range(1_500)}),
        "path": tmp_path / "in.jsonl",
    }[kind]

    async def run() -> None:
        async with AsyncClient(stack.url) as client:
            job = await client.jobs.submit(given, model=MODEL, prompt="{{ row.number }}")
            await job.wait(timeout_s=90)
            table = await job.to_arrow(columns=["number"])
            assert table.column("number").to_pylist() == list(range(1_500))

    asyncio.run(run())


def test_a_generator_is_streamed_to_a_real_server_in_chunks(stack: Stack) -> None:
    with Client(stack.url) as client:
        job = client.jobs.submit(
            iter(Numbered(3_000)), model=MODEL, prompt="{{ row.number }}", name="chunked"
        )
        assert (job.counts.total, job.name) == (3_000, "chunked")
        job.cancel()


def test_a_generator_that_fails_midway_leaves_no_job(stack: Stack) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from Numbered(3_000)
        yield {"number": object()}

    with Client(stack.url) as client:
        with pytest.raises(InvalidInput, match="row 3000, column 'number'"):
            client.jobs.submit(rows(), model=MODEL, prompt="{{ row.number }}", name="midway")
        assert "midway" not in [job.name for job in client.jobs.list(limit=100)]


@pytest.mark.parametrize(
    ("package", "rows", "says"),
    [
        ("pyarrow", FRAME, "needs pyarrow: pip install pyarrow"),
        ("huggingface_hub", "hf://datasets/a/b/c.csv", "needs huggingface_hub: pip install"),
        ("datasets", "hf://datasets/a/b", "needs datasets: pip install datasets"),
    ],
)
def test_a_package_that_is_not_there_is_named(
    package: str, rows: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingPackage, match=says):
        sent_file(rows)


def test_a_server_that_is_away_is_told_after_all_tries() -> None:
    handler, calls = script(*(httpx2.ConnectError("refused") for _ in range(3)))
    with pytest.raises(ServerUnreachable):
        connect(handler, max_retries=2).jobs.submit(iter(Numbered(2_000)), prompt="p")
    assert [numbers(call) for call in calls] == [list(range(2_000))] * 3
