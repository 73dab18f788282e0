"""A Parquet file in batches that fit in memory, by what its footer says. Knows Arrow, and no row.

A few kilobytes can stand for gigabytes: pages are compressed, and a value that stands once in a
dictionary may be that of every row.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)  # what reading it may raise
MAX_PAGE_BYTES = 512 << 20
_MAX_ROWS = 1024
_BATCH_BYTES = 32 << 20  # that rows of the mean size take up
_DENSE_BATCH_BYTES = 128 << 20  # if every row's value were all of its column's dictionary
_WORST_BATCH_BYTES = 4 << 30  # if that were larger than it seems: all of the column
_PAGE_ROWS = 1024  # after so many at the latest, writers look whether a page is full
_USUAL_RATIO = 64  # text is seldom compressed to less than one part in so many


class RowGroupTooLarge(ValueError):
    """A row group has a page that may not fit in memory; the message says what to do."""


def batches_of(parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Read a file, group by group.

    Raises:
        RowGroupTooLarge: when it comes to such a group.
    """
    for index in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(index)
        if group.num_rows:
            num_rows = _batch_rows(index, group)
            yield from parquet.iter_batches(batch_size=num_rows, row_groups=[index])


def damaged_column(parquet: pq.ParquetFile, num_read: int) -> str | None:
    """Find the first column that cannot be read, of the row group that is behind so many rows."""
    num_rows = 0
    for index in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(index)
        num_rows += group.num_rows
        if num_read < num_rows:
            return _damaged_column_of(parquet, index, _batch_rows(index, group))
    return None


def _damaged_column_of(parquet: pq.ParquetFile, index: int, num_rows: int) -> str | None:
    for name in parquet.schema_arrow.names:
        try:
            for _ in parquet.iter_batches(batch_size=num_rows, row_groups=[index], columns=[name]):
                pass
        except DAMAGE:
            return name
    return None


def _batch_rows(index: int, group: pq.RowGroupMetaData) -> int:
    mean_bytes = dictionary_bytes = worst_bytes = 1
    for place in range(group.num_columns):
        chunk = group.column(place)
        _check_pages(index, group, chunk)
        mean_bytes += chunk.total_uncompressed_size // group.num_rows
        if chunk.has_dictionary_page:
            dictionary_bytes += _dictionary_bytes(chunk)
            worst_bytes += chunk.total_uncompressed_size
    fitting = (
        _BATCH_BYTES // mean_bytes,
        _DENSE_BATCH_BYTES // dictionary_bytes,
        _WORST_BATCH_BYTES // worst_bytes,
    )
    return max(1, min(_MAX_ROWS, *fitting))


def _check_pages(index: int, group: pq.RowGroupMetaData, chunk: pq.ColumnChunkMetaData) -> None:
    """Refuse a column whose pages, which are read whole, are likely to be too large."""
    page_bytes = chunk.total_uncompressed_size
    if page_bytes <= _USUAL_RATIO * chunk.total_compressed_size:
        page_bytes = page_bytes * _PAGE_ROWS // max(_PAGE_ROWS, group.num_rows)
    if page_bytes > MAX_PAGE_BYTES:
        raise RowGroupTooLarge(
            f"row group {index} takes {chunk.total_uncompressed_size >> 20:,} MiB of memory in its "
            f"column {chunk.path_in_schema!r:.80}, for {group.num_rows:,} rows: write smaller row "
            "groups, as with row_group_size=100 in pyarrow"
        )


def _dictionary_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    """Guess the size of a column's dictionary, by how much of the file it takes."""
    compressed_bytes = chunk.data_page_offset - (chunk.dictionary_page_offset or 0)
    share = compressed_bytes / max(1, chunk.total_compressed_size)
    return int(min(1.0, max(0.0, share)) * chunk.total_uncompressed_size)
