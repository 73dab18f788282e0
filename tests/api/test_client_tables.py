"""Results as tables: the caller's own columns with their types, beside the answers, in order."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import duckdb
import httpx2
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import BadRequest, InvalidInput, MissingPackage
from penstock.api.job import Job

from .conftest import MODEL, Stack

NUM_ROWS = 300  # several shards
FRAME = pandas.DataFrame(
    {
        "number": range(NUM_ROWS),
        "small": pandas.array([None, 7] * (NUM_ROWS // 2), dtype="Int16"),
        "flag": pandas.array([None, True] * (NUM_ROWS // 2), dtype="boolean"),
        "share": [0.5, float("nan")] * (NUM_ROWS // 2),
        "kind": pandas.Categorical(["b", "a"] * (NUM_ROWS // 2)),
        "at": pandas.date_range("2024-01-01", periods=NUM_ROWS, freq="h"),
        "seen": pandas.date_range("2024-01-01", periods=NUM_ROWS, freq="h", tz="Europe/Berlin"),
        "took": pandas.to_timedelta(range(NUM_ROWS), unit="ms"),
        "tags": [[1, 2], []] * (NUM_ROWS // 2),
        "raw": [b"\x00\xff", b""] * (NUM_ROWS // 2),
        "price": [Decimal("1.50"), None] * (NUM_ROWS // 2),
        "status": [date(2024, 1, 2)] * NUM_ROWS,  # a name that is ours
    }
)


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def landed(client: Client) -> Job:
    job = client.jobs.submit(FRAME, model=MODEL, prompt="{{ row.number }} {{ row.at }}")
    return job.wait(timeout_s=90)


@pytest.fixture
def elsewhere(landed: Job) -> Job:
    """The same job of a server whose disk is not ours."""
    away = replace(landed.record, output_path="/nowhere")
    return Job(landed._connection, away)


@pytest.fixture(params=["here", "elsewhere"])
def job(request: pytest.FixtureRequest, landed: Job, elsewhere: Job) -> Job:
    return landed if request.param == "here" else elsewhere


def test_a_data_frame_comes_back_as_it_was(job: Job) -> None:
    found = job.to_pandas()
    own = found.rename(columns={"status": "ours", "input_status": "status"})[list(FRAME)]
    own["kind"] = own["kind"].cat.set_categories(FRAME["kind"].cat.categories)
    own["tags"] = own["tags"].map(list)
    pandas.testing.assert_frame_equal(own, FRAME, check_dtype=True)
    assert list(found["row_index"]) == list(range(NUM_ROWS))
    assert set(found["status"]) == {"succeeded"}
    assert found["output"].notna().all()


def test_here_and_elsewhere_are_the_same_table(landed: Job, elsewhere: Job) -> None:
    assert elsewhere.to_arrow().equals(landed.to_arrow())
    schema = landed.to_arrow().schema
    assert schema.field("seen").type == pa.timestamp("us", "Europe/Berlin")
    assert pa.types.is_dictionary(schema.field("kind").type)


def test_other_readers_have_the_types_too(job: Job) -> None:
    frame = job.to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["at"].dtype == polars.Datetime("us")
    assert frame["small"].to_list()[:2] == [None, 7]
    dataset = job.to_datasets()
    assert isinstance(dataset, datasets.Dataset)
    assert dataset.num_rows == NUM_ROWS
    assert dataset[1]["raw"] == b"" and dataset[0]["tags"] == [1, 2]
    relation = duckdb.from_arrow(job.to_arrow())
    [(kind, took)] = relation.aggregate('typeof(min("at")), max(took)').fetchall()
    assert (kind, took) == ("TIMESTAMP", timedelta(milliseconds=NUM_ROWS - 1))


def test_some_columns_only(job: Job) -> None:
    assert job.to_pandas(columns=["output", "number"]).columns.to_list() == ["output", "number"]
    assert job.to_arrow(columns=["at"]).schema.types == [pa.timestamp("us")]
    with pytest.raises((InvalidInput, BadRequest), match="no column 'nothing'; there are"):
        job.to_polars(columns=["output", "nothing"])


def test_a_path_of_parquet_keeps_its_types_as_well(client: Client, tmp_path: Path) -> None:
    at = datetime(2024, 1, 2, tzinfo=UTC)
    pq.write_table(pa.table({"at": [at], "n": pa.array([3], pa.uint8())}), tmp_path / "in.parquet")
    job = client.jobs.submit(tmp_path / "in.parquet", model=MODEL, prompt="{{ row.at }}")
    [row] = job.wait(timeout_s=60).to_arrow(columns=["at", "n"]).to_pylist()
    assert row == {"at": at, "n": 3}
    assert json.loads((Path(job.output_path or "") / "_manifest.json").read_bytes())["spec"][
        "arrow_schema"
    ]


@pytest.mark.parametrize("name", ["out", "out/rows.parquet", "out/rows.jsonl"])
def test_a_download_is_one_file(elsewhere: Job, tmp_path: Path, name: str) -> None:
    path = elsewhere.download(tmp_path / name)
    assert path.parent == tmp_path / "out"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert table.equals(elsewhere.to_arrow().cast(table.schema))
        return
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["number"] for row in rows] == list(range(NUM_ROWS))
    assert (rows[0]["raw"], rows[0]["at"]) == ("AP8=", "2024-01-01T00:00:00")


def test_a_download_to_a_format_of_nobody_is_refused(elsewhere: Job, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"rows\.xlsx: end it in \.parquet or \.jsonl"):
        elsewhere.download(tmp_path / "rows.xlsx")
    with pytest.raises(BadRequest):
        elsewhere.download(tmp_path / "rows.parquet", columns=["nothing"])
    assert list(tmp_path.iterdir()) == []


def test_the_twin_for_asyncio_has_the_same_tables(stack: Stack, elsewhere: Job) -> None:
    async def run() -> None:
        async with AsyncClient(stack.url) as client:
            twin = await client.jobs.get(elsewhere.id)
            twin.record = elsewhere.record
            assert (await twin.to_arrow()).equals(elsewhere.to_arrow())
            assert (await twin.to_pandas(columns=["at"])).equals(
                elsewhere.to_pandas(columns=["at"])
            )
            assert (await twin.to_polars()).shape == elsewhere.to_polars().shape
            assert (await twin.to_datasets()).num_rows == NUM_ROWS

    asyncio.run(run())


def test_each_sample_has_a_row_beside_the_callers_columns(client: Client) -> None:
    rows = [{"name": "a"}, {"name": "b"}]
    job = client.jobs.submit(rows, model=MODEL, prompt="{{ row.name }}", sampling={"n": 3})
    table = job.wait(timeout_s=60).to_arrow(columns=["row_index", "sample_index", "name"])
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (index, sample, name) for index, name in enumerate("ab") for sample in range(3)
    ]


@pytest.mark.parametrize("format", ["arrow", "parquet"])
@pytest.mark.parametrize("limit", [None, 7])
def test_plain_http_gives_typed_tables(
    stack: Stack, landed: Job, format: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.api.routes.job_results.PAGE_ROWS", 64)
    params: dict[str, Any] = {"format": format, "columns": ["number", "at"]}
    params |= {} if limit is None else {"limit": limit}
    answer = httpx2.get(f"{stack.url}/v1/jobs/{landed.id}/results", params=params, timeout=60)
    assert answer.headers["content-type"].startswith("application/vnd.apache.")
    buffer = pa.BufferReader(answer.content)
    table = pq.read_table(buffer) if format == "parquet" else pa.ipc.open_stream(buffer).read_all()
    assert table.schema.types == [pa.int64(), pa.timestamp("us")]
    assert table.column("number").to_pylist() == list(range(limit or NUM_ROWS))
    assert (answer.headers.get("x-next-cursor") is None) == (limit is None)


@pytest.mark.parametrize("package", ["pandas", "polars", "datasets", "pyarrow"])
def test_a_package_that_is_not_there_is_named(
    elsewhere: Job, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    collect = elsewhere.to_arrow if package == "pyarrow" else getattr(elsewhere, f"to_{package}")
    with pytest.raises(MissingPackage, match=f"needs {package}: pip install {package}"):
        collect()
