"""A pandas frame's index comes back with its results, however they are fetched."""

import io
from collections.abc import Iterator

import httpx2
import pandas
import pyarrow
import pyarrow.parquet as pq
import pytest

from penstock import Client
from penstock.api import tables
from penstock.api.job import Job
from penstock.jobs.frame_index import PANDAS, index_of_frame, noted, noted_index

from .conftest import MODEL, Stack
from .plain_workflows import WORKFLOW

FRAME = pandas.DataFrame(
    {"text": ["a", "b", "c"], "status": [1, 2, 3]},
    index=pandas.MultiIndex.from_arrays(
        [["x", "y", "z"], pandas.to_datetime(["2024-01-03", "2024-01-02", "2024-01-01"])],
        names=["model", None],  # a name that is ours, and none
    ),
)


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def landed(client: Client) -> Job:
    job = client.jobs.submit(FRAME, model=MODEL, prompt="{{ row.text }} {{ row.model }}")
    return job.wait(timeout_s=90)


@pytest.fixture(params=["here", "elsewhere"])
def job(landed: Job, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Job:
    if request.param == "elsewhere":
        monkeypatch.setattr(tables, "landed_table", lambda *_, **__: None)
    return landed


def test_results_have_the_index_of_the_rows(job: Job) -> None:
    found = job.to_pandas()
    assert list(found.index) == list(FRAME.index)
    assert list(found.index.names) == ["input_model", None]
    assert found["text"].tolist() == ["a", "b", "c"]
    assert not {"input_model", "__index_level_1__"} & set(found.columns)


def test_so_have_some_of_their_columns(job: Job) -> None:
    some = job.to_pandas(columns=["output"])
    assert some.columns.tolist() == ["output"]
    assert list(some.index) == list(FRAME.index)
    assert job.to_arrow(columns=["output"]).column_names == ["output"]


def test_frames_that_know_no_index_have_columns(job: Job) -> None:
    assert (
        job.to_polars()["__index_level_1__"].to_list() == FRAME.index.get_level_values(1).to_list()
    )


def test_samples_of_a_row_share_its_place(client: Client) -> None:
    frame = pandas.DataFrame({"text": ["a", "b"]}, index=[7, 3])
    job = client.jobs.submit(frame, model=MODEL, prompt="{{ row.text }}", sampling={"n": 2})
    found = job.wait(timeout_s=60).to_pandas()
    assert found.index.tolist() == [7, 7, 3, 3]
    assert found.index.name is None


def test_a_page_of_parquet_tells_of_it(http: httpx2.Client, landed: Job) -> None:
    answer = http.get(f"/v1/jobs/{landed.id}/results", params={"format": "parquet"})
    schema = pq.read_schema(io.BytesIO(answer.content))
    assert noted_index(schema.metadata) == ["input_model", "__index_level_1__"]


@pytest.mark.parametrize("name", [None, "place"])
def test_a_run_brings_an_index_back(
    client: Client, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = pandas.Index([7, 3], name=name)
    frame = pandas.DataFrame({"text": ["a", "b"], "size": [1, 2]}, index=index)
    run = client.workflows.run({**WORKFLOW, "output": {}}, {"texts": frame}).wait(timeout_s=60)
    found = run.to_pandas()
    assert sorted(set(found.index)) == [3, 7]
    monkeypatch.setattr(tables, "landed_table", lambda *_, **__: None)  # from elsewhere
    for some in (found, run.to_pandas(columns=["text"])):
        assert some.index.name == name
        assert some["text"].to_dict() == {7: "a", 3: "b"}


def test_an_index_that_nobody_has_noted_is_known_by_having_no_name() -> None:
    landed = pyarrow.table({"__index_level_0__": [7, 3], "text": ["a", "b"], "size": [1, 2]})
    for table in (landed, tables.selected(landed, ["text"], has_index=True)):
        found = tables.to_pandas(table)
        assert found["text"].to_dict() == {7: "a", 3: "b"}
        assert found.index.name is None


@pytest.mark.parametrize(
    "note",
    [b"", b"no json", b"[]", b"{}", b'{"index_columns": 7}', b'{"index_columns": [{}, 7]}',
     b"[" * 100_000, b'{"index_columns": ["a"], "b": "' + b"c" * (5 << 20) + b'"}'],
)  # fmt: skip
def test_a_note_that_is_none(note: bytes) -> None:
    assert index_of_frame({PANDAS: note}) == []


def test_a_note_is_read_as_it_was_written() -> None:
    assert noted_index(noted(["a", "b"])) == ["a", "b"]
    assert noted_index(noted([])) == noted_index(None) == []
