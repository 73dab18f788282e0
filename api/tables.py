"""Results as a data frame of the caller's choice. Knows Parquet only when asked; no transport."""

from collections.abc import AsyncIterable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .client_errors import MissingPackage
from .records import Row

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 10_000


class Landed(Protocol):
    """A job, or a run of a workflow."""

    @property
    def output_path(self) -> str | None:
        """The directory with `rows/`, as the server names it."""
        ...


def landed_table(record: Landed) -> "pa.Table | None":
    """Read a finished job's Parquet directly, or None when its directory is not on this machine."""
    if record.output_path is None or not (Path(record.output_path) / "_SUCCESS").is_file():
        return None
    arrow = _import("pyarrow", "to_arrow")
    parquet = _import("pyarrow.parquet", "to_arrow")
    parts = sorted((Path(record.output_path) / "rows").glob("*.parquet"))
    tables: list[pa.Table] = []
    for part in parts:
        # Opened once: a retry may replace it between its footer and its rows.
        with parquet.ParquetFile(part, page_checksum_verification=True) as file:
            tables.append(file.read())
    return arrow.concat_tables(tables) if tables else None


def save_parquet(table: "pa.Table", path: Path) -> None:
    """Write a table as one Parquet file, which is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    _import("pyarrow.parquet", "save_parquet").write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)


class TableBuilder:
    """Builds a table from rows that came over the wire; the types are inferred.

    It turns them into columns as they come: as Python objects they would take ten times the room.
    """

    def __init__(self) -> None:
        self._arrow = _import("pyarrow", "to_arrow")
        self._rows: list[Row] = []
        self._tables: list[pa.Table] = []

    def add(self, row: Row) -> None:
        """Append a row."""
        self._rows.append(row)
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def table(self) -> "pa.Table":
        """Return the table of all rows. A column of nulls takes the type that it has elsewhere."""
        if self._rows or not self._tables:
            self._flush()
        return self._arrow.concat_tables(self._tables, promote_options="permissive")

    def _flush(self) -> None:
        self._tables.append(self._arrow.Table.from_pylist(self._rows))
        self._rows = []


def table_of(rows: Iterable[Row]) -> "pa.Table":
    """Build a table from rows that came over the wire."""
    builder = TableBuilder()
    for row in rows:
        builder.add(row)
    return builder.table()


async def table_of_stream(rows: AsyncIterable[Row]) -> "pa.Table":
    """Build a table from rows that are still to come over the wire."""
    builder = TableBuilder()
    async for row in rows:
        builder.add(row)
    return builder.table()


def to_pandas(table: "pa.Table") -> Any:
    """Turn a table into a pandas DataFrame."""
    _import("pandas", "to_pandas")
    return table.to_pandas()


def to_polars(table: "pa.Table") -> Any:
    """Turn a table into a polars DataFrame."""
    return _import("polars", "to_polars").from_arrow(table)


def _import(package: str, wanted_by: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise MissingPackage(f"{wanted_by} needs {name}: pip install {name}") from error
