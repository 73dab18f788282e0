"""What a table may hold on its way into a Parquet file, and at what price it is written."""

from typing import Any

import numpy
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api import arrow_files
from penstock.api.client_errors import InvalidInput

from .scripted import sent_file

INF = float("inf")
PAIRS = pa.map_(pa.string(), pa.float64())
DEEP = {
    "a list": pa.array([None, [1.0], [], [2.0, INF]]),
    "a large list": pa.array([[1.0], [2.0], None, [-INF]], pa.large_list(pa.float32())),
    "a list of one size": pa.array([[1.0], None, [2.0], [INF]], pa.list_(pa.float64(), 1)),
    "a struct": pa.array([None, {"x": 1.0}, {"x": None}, {"x": INF}]),
    "a struct of lists": pa.array([{"s": "", "x": [0.5]}, None, {"x": []}, {"s": "", "x": [INF]}]),
    "a list of structs": pa.array([[{"x": 1.0}], [], None, [{"x": 1.0}, {"x": INF}]]),
    "a map": pa.array([[("a", 1.0)], None, [], [("a", 1.0), ("b", INF)]], PAIRS),
}


@pytest.mark.parametrize("kind", DEEP)
def test_an_infinity_is_refused_however_deep_it_is(kind: str) -> None:
    column = pa.chunked_array([DEEP[kind].slice(0, 2), DEEP[kind].slice(2)])
    with pytest.raises(InvalidInput, match=r"row 3, column 'a', holds an infinity.* send None"):
        sent_file(pa.table({"n": range(4), "a": column}))
    assert pq.read_table(pa.BufferReader(sent_file(pa.table({"a": column[:3]})))).num_rows == 3


def test_an_infinity_among_categories_is_refused() -> None:
    column = pa.array([0.5, 0.5, INF]).dictionary_encode()
    with pytest.raises(InvalidInput, match="row 2, column 'a', is infinite"):
        sent_file(pa.table({"a": column}))


class CountedTable:
    """A table of one row that counts how often it was measured."""

    num_measured = 0
    num_rows = 1

    def slice(self, start: int, length: int) -> "CountedTable":
        return self

    @property
    def nbytes(self) -> int:
        CountedTable.num_measured += 1
        return 8


class CountedArrow:
    """As much of Arrow as grouping needs."""

    Table = CountedTable

    @staticmethod
    def concat_tables(tables: list[CountedTable], **_: Any) -> int:
        return len(tables)


def test_small_tables_are_measured_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_files, "need", lambda *_: CountedArrow)
    monkeypatch.setattr(arrow_files, "_GROUP_BYTES", 800)
    monkeypatch.setattr(CountedTable, "num_measured", 0)
    assert list(arrow_files._groups(CountedTable() for _ in range(250))) == [100, 100, 50]
    assert CountedTable.num_measured == 250


@pytest.mark.parametrize("gap", [None, float("nan"), pandas.NaT, pandas.NA])
def test_a_column_of_arrays_and_text_is_told_and_gaps_are_none(gap: Any) -> None:
    frame = pandas.DataFrame({"a": pandas.Series([gap, numpy.array([1, 2]), "x"], dtype=object)})
    with pytest.raises(InvalidInput, match=r"row 2, column 'a', holds a str .* type ndarray"):
        sent_file(frame)
