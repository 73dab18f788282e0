"""Documents of a schema land as text, and typed beside it, in one type for all parts."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings

from .small_runs import SmallRuns, in_small_shards

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["n", "tags"],
}
SAID: dict[str, Any] = {
    "id": "said", "type": "generate", "prompt": "{{ row.n }}", "schema": SCHEMA,
    "on_error": "default", "default": {"other": 1},
}  # fmt: skip
TYPE = pa.struct([("n", pa.int64()), ("tags", pa.list_(pa.string()))])


def say(body: dict[str, Any]) -> str:
    number = int(body["prompt"])
    return "none" if number == 3 else json.dumps({"n": number, "tags": ["a"] * number})


def landed(runs: SmallRuns, **fields: Any) -> pa.Table:
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "fake"}, "steps": [SAID]}
    rows = {"rows": [{"n": number, "x__parsed": 0} for number in range(5)]}
    run = runs.finish(runs.submit({**document, **fields}, rows).run_id)
    assert run.state is JobState.COMPLETED
    place = runs.results(run.run_id).output
    schema = json.loads(place.manifest.read_bytes())["schema"]
    tables = [pq.read_table(part) for part in place.parts().values()]
    assert len({table.schema for table in tables}) == 1, "all parts have one schema"
    assert {each["name"] for each in schema} <= set(tables[0].column_names)
    return pa.concat_tables(tables)


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> SmallRuns:
    return SmallRuns(settings, table, say)


def test_documents_land_typed(runs: SmallRuns) -> None:
    with in_small_shards():
        table = landed(runs)
    assert table.schema.field("said__parsed").type == TYPE
    typed = table.column("said__parsed").to_pylist()
    texts = [json.loads(text) for text in table.column("said").to_pylist()]
    assert typed[:3] == texts[:3] == [{"n": n, "tags": ["a"] * n} for n in range(3)]
    assert texts[3] == {"other": 1}
    assert typed[3] == {"n": None, "tags": None}, "what a default lacks is null"


@pytest.mark.parametrize(
    "fields",
    [
        {"output": {"select": ["said.n"]}},
        {"steps": [{**SAID, "as": "x"}]},  # the input has brought a column of that name
        {"steps": [{**SAID, "schema": {"type": "object"}}]},
        {"steps": [SAID, {"id": "all", "type": "reduce", "group_by": ["n"],
                          "agg": {"k": "count()"}}]},
    ],
)  # fmt: skip
def test_what_has_no_type_lands_as_it_is(runs: SmallRuns, fields: dict[str, Any]) -> None:
    with in_small_shards():
        table = landed(runs, **fields)
    assert not [
        each.name for each in table.schema if each.name.endswith("__parsed") and each.type == TYPE
    ]
