"""Log-probabilities keep their shape from the engine's records to any reader of Parquet."""

import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.engine.outputs import TokenLogprobs
from penstock.jobs.landed_logprobs import LOGPROBS, logprobs_column, pack_logprobs
from penstock.jobs.landing import land
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.row_schema import row_schema

from .conftest import SpecMaker
from .test_landing import rows_of

RECORDS = (
    TokenLogprobs(65, -0.25, ((65, -0.25), (66, -1.5))),
    TokenLogprobs(67, -2.0),
    TokenLogprobs(228, -3.0, ((228, -math.inf),)),
)
TOLD = [
    {
        "token": "A",
        "token_id": 65,
        "logprob": -0.25,
        "top": [
            {"token": "A", "token_id": 65, "logprob": -0.25},
            {"token": "B", "token_id": 66, "logprob": -1.5},
        ],
    },
    {"token": "C", "token_id": 67, "logprob": -2.0, "top": []},
    {
        "token": "ä",
        "token_id": 228,
        "logprob": -3.0,
        "top": [{"token": "ä", "token_id": 228, "logprob": -math.inf}],
    },
]


def test_a_column_holds_a_list_for_every_row_that_asked() -> None:
    packed = pack_logprobs(RECORDS, chr)
    column = logprobs_column([None, packed, pack_logprobs((), chr), packed, None])
    column.validate(full=True)
    assert column.type == LOGPROBS
    assert column.to_pylist() == [None, TOLD, [], TOLD, None]
    lone = logprobs_column([pack_logprobs(RECORDS[1:2], lambda _: "half \ud800")])
    assert lone.to_pylist()[0][0]["token"] == "half ?"
    for rows in ([], [None, None]):
        assert logprobs_column(rows).to_pylist() == rows


@pytest.mark.parametrize("has_logprobs", [True, False])
def test_they_land_where_they_were_asked_for(make_spec: SpecMaker, has_logprobs: bool) -> None:
    spec = make_spec(num_rows=2, shard_rows=4, has_logprobs=has_logprobs)
    land(spec, 0, 1, rows_of(spec, 0, logprobs=pack_logprobs(RECORDS, chr)))
    part = ResultsDir.of(spec).part(0)
    table = pq.read_table(part, page_checksum_verification=True)
    assert table.schema.equals(row_schema(spec))
    if not has_logprobs:
        assert "logprobs" not in table.schema.names
        return
    assert table["logprobs"].to_pylist() == [TOLD, TOLD]
    assert len(pd.read_parquet(part)["logprobs"][1]) == 3
    again = pa.Table.from_pylist(table.to_pylist(), schema=row_schema(spec))
    assert again["logprobs"].to_pylist() == [TOLD, TOLD], "as for rows that a retry brings"
