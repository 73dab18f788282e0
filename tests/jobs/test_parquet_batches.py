"""Small Parquet files that stand for much: read in little memory, or refused by name."""

import io
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.jobs import input_row, parquet_rows
from penstock.jobs.inputs import InputRow, RejectedLine, UnreadableInput, open_input
from penstock.jobs.parquet_batches import batches_of

from .memory import peak_growth_mb

MIB = 1 << 20


def parquet(column: pa.Array, **options: Any) -> io.BytesIO:
    """A file of one column."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": column}), file, compression="zstd", **options)
    file.seek(0)
    return file


def same(text: str, num_rows: int) -> pa.Array:
    """A column that holds its text once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), [text])


def noise(num_rows: int) -> pa.Array:
    chance = random.Random(0)
    return pa.array([chance.randbytes(32).hex() for _ in range(num_rows)])


def test_a_text_that_stands_once_for_all_rows_takes_little_memory() -> None:
    file = parquet(same("x" * MIB, 800), store_schema=False)
    assert len(file.getvalue()) < 20_000
    lengths: set[int] = set()

    def work() -> None:
        for item in open_input(file, "parquet"):
            assert isinstance(item, InputRow)
            lengths.add(len(item.row["text"]))

    assert peak_growth_mb(work) < 1_000  # all at once it is more than twice that
    assert lengths == {MIB}


def test_batches_follow_the_size_of_rows() -> None:
    def sizes(file: io.BytesIO) -> list[int]:
        return [batch.num_rows for batch in batches_of(pq.ParquetFile(file))]

    assert sizes(parquet(noise(1_500))) == [1024, 476]
    dense = parquet(pa.array(["x" * MIB] * 40), use_dictionary=False)
    assert max(sizes(dense)) == 31
    assert max(sizes(parquet(same("x" * MIB, 500), store_schema=False))) < 250
    assert sum(sizes(parquet(noise(30), row_group_size=7))) == 30
    assert sizes(parquet(noise(0))) == []


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_row_is_held_to_what_a_line_is(dictionary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_row, "MAX_LINE_BYTES", MIB)
    column = pa.array(["a", "x" * (MIB + 1), "é" * MIB, "b"])
    for at_once in (99 * MIB, 0):
        monkeypatch.setattr(parquet_rows, "_BYTES_AT_ONCE", at_once)
        file = parquet(column.dictionary_encode() if dictionary else column)
        items = list(open_input(file, "parquet"))
        rejected = [RejectedLine(line, "is longer than 1 MiB") for line in (2, 3)]
        assert items == [InputRow(1, {"text": "a"}), *rejected, InputRow(4, {"text": "b"})]


def test_a_page_that_may_not_fit_is_refused_by_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.jobs.parquet_batches.MAX_PAGE_BYTES", MIB)
    read = open_input(parquet(noise(100_000)), "parquet")  # larger, but in pages
    assert sum(isinstance(item, InputRow) for item in read) == 100_000
    few = pa.array(["a", "b", *("x" * MIB for _ in range(2))])
    many = pa.array(["x" * 64] * 100_000)
    for column, group in ((few, 1), (many, 0)):
        file = parquet(column, row_group_size=len(column) // (group + 1), use_dictionary=False)
        refused = rf"row group {group} takes \d MiB .*'text', for [\d,]+ rows: write smaller"
        with pytest.raises(UnreadableInput, match=refused):
            list(open_input(file, "parquet"))
