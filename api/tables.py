"""Results as a data frame of the caller's choice. Knows Parquet only when asked; no transport."""

import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..jobs.frame_index import is_unnamed, noted_index
from .client_errors import InvalidInput, MissingPackage
from .column_types import restored
from .whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

_NULLABLE = {  # columns that pandas has no gaps for, unless in these
    "bool": "BooleanDtype",
    **{f"int{bits}": f"Int{bits}Dtype" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UInt{bits}Dtype" for bits in (8, 16, 32, 64)},
}


class Landed(Protocol):
    """A job, or a run of a workflow."""

    @property
    def output_path(self) -> str | None:
        """The directory with `rows/`, as the server names it."""
        ...


def landed_table(
    record: Landed, columns: Sequence[str] | None = None, *, has_index: bool = False
) -> "pa.Table | None":
    """Read a finished job's Parquet directly, or None when its directory is not on this machine.

    With `has_index` the columns that were a frame's index come along, chosen or not.

    Raises:
        InvalidInput: the rows have no such column.
    """
    if record.output_path is None or not (Path(record.output_path) / "_SUCCESS").is_file():
        return None
    arrow = need("pyarrow", "to_arrow")
    parquet = need("pyarrow.parquet", "to_arrow")
    directory = Path(record.output_path)
    types = _noted_types(directory)
    tables: list[pa.Table] = []
    for part in sorted((directory / "rows").glob("*.parquet")):
        # Opened once: a retry may replace it between its footer and its rows.
        with parquet.ParquetFile(part, page_checksum_verification=True) as file:
            landed = restored(file.schema_arrow.empty_table(), types)
            chosen = selected(landed, columns, has_index=has_index).column_names
            tables.append(file.read(columns=None if columns is None else chosen))
    return restored(arrow.concat_tables(tables), types) if tables else None


def selected(
    table: "pa.Table", columns: Sequence[str] | None, *, has_index: bool = False
) -> "pa.Table":
    """Leave all columns out but these, and, with `has_index`, those that were a frame's index.

    Raises:
        InvalidInput: there is no such column.
    """
    if columns is None:
        return table
    columns = [columns] if isinstance(columns, str) else list(columns)
    for column in columns:
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise InvalidInput(f"the rows have no column {column!r}; there are {known}")
    index = index_columns(table) if has_index else []
    return table.select(list(dict.fromkeys([*columns, *index])))


def read_stream(content: bytes) -> "pa.Table":
    """Read a table in Arrow's streaming format."""
    return need("pyarrow", "to_arrow").ipc.open_stream(content).read_all()


def joined(tables: "Iterable[pa.Table]") -> "pa.Table":
    """Put the pages of a job, or of a run, together."""
    return need("pyarrow", "to_arrow").concat_tables(tables, promote_options="default")


def save_parquet(table: "pa.Table", path: Path) -> None:
    """Write a table as one Parquet file, which is there as a whole or not at all."""
    parquet = need("pyarrow.parquet", "save_parquet")
    with whole_file(path) as file:
        parquet.write_table(table, file, compression="zstd")


def index_columns(table: "pa.Table") -> list[str]:
    """Name the columns that were a frame's index; where none is noted, those that have no name."""
    names = noted_index(table.schema.metadata) or filter(is_unnamed, table.column_names)
    return [name for name in names if name in table.column_names]


def to_pandas(table: "pa.Table") -> Any:
    """Turn a table into a pandas DataFrame, with the index that the rows came with, if they did.

    Integers and truths with gaps stay what they are.
    """
    pandas = need("pandas", "to_pandas")
    frame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        dtype = _NULLABLE.get(str(column.type)) if column.null_count else None
        if dtype is not None:  # pandas would make floats of them
            nullable = getattr(pandas, dtype)()
            frame[name] = column.to_pandas(types_mapper=lambda _, dtype=nullable: dtype)
    index = index_columns(table)
    if not index:
        return frame
    return frame.set_index(index).rename_axis(
        [None if is_unnamed(name) else name for name in index]
    )


def to_polars(table: "pa.Table") -> Any:
    """Turn a table into a polars DataFrame."""
    return need("polars", "to_polars").from_arrow(table)


def to_datasets(table: "pa.Table") -> Any:
    """Turn a table into a `datasets.Dataset`."""
    return need("datasets", "to_datasets").Dataset(table)


def need(package: str, wanted_by: str) -> Any:
    """Load a package that is only wanted here.

    Raises:
        MissingPackage: it is not installed; the message says how to.
    """
    try:
        return import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise MissingPackage(f"{wanted_by} needs {name}: pip install {name}") from error


def _noted_types(directory: Path) -> str | None:
    """Look up what the columns were, in the manifest: of a run, or of a job."""
    manifest = directory / "_manifest.json"
    if not manifest.is_file():
        return None
    noted = json.loads(manifest.read_bytes())
    return noted.get("arrow_schema") or noted.get("spec", {}).get("arrow_schema")
