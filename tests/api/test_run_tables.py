"""The rows of a run as a table: the same over the wire as from the disk."""

import asyncio
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock import AsyncClient, Client
from penstock.api import run_pager, run_pages, tables
from penstock.api.client_errors import BadRequest, InvalidInput
from penstock.api.workflow_run import WorkflowRun
from penstock.jobs.workflow.checks.problems import InvalidWorkflow, Problem

from .conftest import MODEL, Stack
from .plain_workflows import endless

MIXED: dict[str, Any] = {
    "version": 1,
    "name": "mixed",
    "inputs": {"texts": {"type": "dataset"}},
    "steps": [
        {"id": "any", "type": "map", "set": {"either": "row.size if row.size < 2 else row.text"}},
        {"id": "said", "type": "generate", "model": MODEL,
         "prompt": '[[say]]{"size": {{ row.size }}}', "schema": {"size": "int"}},
    ],
    "output": {},
}  # fmt: skip
TYPES = {  # that rows cannot say
    "day": pa.timestamp("us", "UTC"),
    "price": pa.decimal128(5, 2),
    "tags": pa.list_(pa.int32()),
    "few": pa.int8(),
}
VALUES: dict[str, list[Any]] = {
    "day": [datetime(2026, 1, 2, tzinfo=UTC)] * 5,
    "price": [Decimal("1.50"), None, Decimal("2.25"), None, None],
    "tags": [[1, 2], [], None, [3], [4]],
    "few": [1, None, 3, 4, 5],
}


@pytest.fixture(scope="module")
def run(stack: Stack) -> Iterator[WorkflowRun]:
    size, late = pa.array(range(5)), pa.array([None] * 4 + ["here"])
    texts = pa.table({"text": ["a", "b", "c", "d", "e"], "size": size, "late": late})
    for name, kind in TYPES.items():
        texts = texts.append_column(name, pa.array(VALUES[name], kind))
    with Client(stack.url) as client:
        yield client.workflows.run(MIXED, {"texts": texts}).wait(timeout_s=60)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server were on another machine, and pages were small."""
    monkeypatch.setattr(tables, "landed_table", lambda *_, **__: None)
    monkeypatch.setattr(run_pager, "_MOST_ROWS", 2)


def on_disk(run: WorkflowRun) -> pa.Table:
    table = tables.landed_table(run.record)
    assert table is not None
    return table.replace_schema_metadata()


def test_the_wire_gives_what_lies_on_the_disk(
    run: WorkflowRun, request: pytest.FixtureRequest
) -> None:
    landed = on_disk(run)
    either = [json.loads(text)["either"] for text in landed.column("any").to_pylist()]
    assert either == [0, 1, "c", "d", "e"]
    assert landed.column("said__parsed").to_pylist()[3] == {"size": 3}
    request.getfixturevalue("elsewhere")
    assert run.to_arrow().equals(landed)
    assert run.to_pandas()["late"].tolist()[-1] == "here"


@pytest.mark.parametrize("where", [None, "elsewhere"])
@pytest.mark.parametrize("step", [None, "any"])
def test_columns_of_an_input_come_back_as_they_were(
    run: WorkflowRun, where: str | None, step: str | None, request: pytest.FixtureRequest
) -> None:
    if where:
        request.getfixturevalue(where)
    table = run.to_arrow(step=step, columns=list(TYPES))
    assert dict(zip(table.column_names, table.schema.types, strict=True)) == TYPES
    assert table.to_pydict() == VALUES


def test_so_does_the_twin_for_asyncio(
    run: WorkflowRun, stack: Stack, request: pytest.FixtureRequest
) -> None:
    landed = on_disk(run)
    request.getfixturevalue("elsewhere")

    async def fetched() -> pa.Table:
        async with AsyncClient(stack.url) as client:
            return await (await client.workflows.get(run.id)).to_arrow()

    assert asyncio.run(fetched()).equals(landed)


def test_a_run_that_todays_checks_refuse_is_read_without_types(
    run: WorkflowRun, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise InvalidWorkflow([Problem("steps[0]", "it was fine once")])

    monkeypatch.setattr(run_pages, "plan_of", refuse)
    table = run.to_arrow(columns=["size", "day"])
    assert table.column("size").to_pylist() == list(range(5))
    assert table.schema.field("day").type == pa.string()


def test_rows_whose_inputs_say_nothing_of_types_need_no_plan(
    stack: Stack, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("the workflow is planned for a page")

    steps = [{"id": "any", "type": "map", "set": {"half": "row.size / 2"}}]
    with Client(stack.url) as client:
        texts = [{"text": "x", "size": 1}]
        plain = client.workflows.run({**MIXED, "steps": steps}, {"texts": texts}).wait(timeout_s=60)
        monkeypatch.setattr(run_pages, "plan_of", refuse)
        assert plain.to_arrow().column("size").to_pylist() == [1]


def test_pages_of_parquet(http: httpx2.Client, run: WorkflowRun) -> None:
    for path, num_rows in (("results", 5), ("steps/any/rows", 5)):
        pages, after = [], "0"
        while after is not None:
            params = {"format": "parquet", "limit": 2, "after": after}
            answer = http.get(f"/v1/workflows/runs/{run.id}/{path}", params=params)
            assert answer.headers["content-type"] == "application/vnd.apache.parquet"
            pages.append(pq.read_table(io.BytesIO(answer.content)))
            after = answer.headers.get("x-next-cursor")
        assert [page.num_rows for page in pages] == [2, 2, 1]
        assert tables.joined(pages).num_rows == num_rows
        assert tables.joined(pages).column("size").to_pylist() == list(range(5))


def test_nothing_has_landed_yet(http: httpx2.Client, stack: Stack, tmp_path: Path) -> None:
    with Client(stack.url) as client:
        going_on = client.workflows.run(endless(), {"texts": [{"text": "x", "size": 1}]})
        assert going_on.to_arrow(follow=False).num_rows == 0
        path = f"/v1/workflows/runs/{going_on.id}/results"
        answer = http.get(path, params={"format": "parquet"})
        assert pq.read_table(io.BytesIO(answer.content)).num_rows == 0
        saved = going_on.download(tmp_path, follow=False)
        assert pq.read_table(saved).num_rows == 0
        going_on.cancel()


@pytest.mark.parametrize("where", [None, "elsewhere"])
def test_some_columns_and_some_steps(
    run: WorkflowRun, where: str | None, request: pytest.FixtureRequest
) -> None:
    if where:
        request.getfixturevalue(where)
    assert run.to_arrow(columns=["size", "late"]).column_names == ["size", "late"]
    assert run.to_pandas(columns="size").to_dict("list") == {"size": list(range(5))}
    assert run.to_polars(step="any", columns=["any"]).height == 5
    assert "said" not in run.to_arrow(step="any").column_names
    assert run.to_datasets(columns=["row_id"])["row_id"][:2] == ["0", "1"]
    with pytest.raises(InvalidInput, match="the rows have no column 'nope'"):
        run.to_arrow(columns=["nope"])


def test_a_download(run: WorkflowRun, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    landed = on_disk(run)
    request.getfixturevalue("elsewhere")  # in several pages
    path = run.download(tmp_path)
    assert path == tmp_path / f"{run.id}.parquet"
    assert pq.read_table(path).equals(landed)
    lines = run.download(tmp_path / "any.jsonl", step="any", columns=["size"]).read_text()
    assert [json.loads(line) for line in lines.splitlines()] == [{"size": n} for n in range(5)]


def test_decimals_are_not_ordered_as_the_text_that_they_are(stack: Stack, tmp_path: Path) -> None:
    prices = pa.table({"price": pa.array(["9.50", "10.50"]).cast(pa.decimal128(4, 2))})
    steps = [{"id": "dear", "type": "filter", "where": "row.price > '9'"}]
    workflow = {"version": 1, "name": "dear", "inputs": {"t": {}}, "steps": steps}
    told = r"was decimal128\(4, 2\) in the input.*write float\(row\.price\)"
    pq.write_table(prices, tmp_path / "t.parquet")
    body = {"workflow": workflow, "inputs": {"t": {"path": str(tmp_path / "t.parquet")}}}
    with stack.http() as http:
        answer = http.post("/v1/workflows/validate", json=body)
        assert re.search(told, answer.text), answer.text
    with Client(stack.url) as client:
        with pytest.raises(BadRequest, match=told):
            client.workflows.run(workflow, {"t": prices})
        steps[0]["where"] = "float(row.price) > 9.5"
        run = client.workflows.run(workflow, {"t": prices}).wait(timeout_s=60)
        assert [row["price"] for row in run.results()] == ["10.50"]
