"""The rows of one shard of a step, as a Parquet file. Knows no step's meaning.

row_id, parent_id    strings      the row, and the one that it was made from
parents              list         of a group's row, those that it was made of
...                               the columns of the plan, in its order; json as text
<column>__parsed     struct       of the output: documents of a schema, once more (`typed_columns`)
<column>__error      struct       of a row that goes on though the step failed: why; null else

A value that its column cannot hold is null, and its row counts as failed. The footer says how the
shard came to be (`ShardReport`), and is sealed.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ...durable import create_file
from ...found_part import set_aside
from ...model import RequestError
from ...parsed_column import parsed_value
from ...part_file import CorruptPart, read_part, sealed_part
from ...results_dir import ResultsDir
from ...seal import BLANK_SEAL
from ..plan import ColumnKind
from ..row import Fault, Row
from ..typed_columns import PARSED
from .fault_file import ERROR_TYPE, error_fields
from .shard_report import ShardReport

OUT_OF_RANGE = "value_out_of_range"  # the error of a row with a value that did not fit

_REPORT_KEY = b"penstock.step"
_SEAL_KEY = b"penstock.seal"
_LINEAGE = [
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("parent_id", pa.string()),
    pa.field("parents", pa.list_(pa.string())),
]
_TYPES: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "json": pa.string(),
    "vector": pa.list_(pa.float32()),
}
_INT64 = range(-(2**63), 2**63)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FittedRows:
    """Rows as their columns can hold them, and which values were lost by that."""

    rows: Sequence[Row]
    columns: Mapping[str, ColumnKind]
    values: Mapping[str, list[Any]]
    misfits: list[Fault]


def fitted(rows: Sequence[Row], columns: Mapping[str, ColumnKind]) -> FittedRows:
    """Make rows fit into columns; one that loses a value has failed, and does not so silently."""
    values = {name: _fitted(rows, name, kind) for name, kind in columns.items()}
    lost: dict[int, str] = {}
    for name, some in values.items():
        for position, value in enumerate(some):
            if value is None and rows[position].values.get(name) is not None:
                lost.setdefault(position, name)
    return FittedRows(
        rows, columns, values, [_misfit(rows[each], lost[each], columns) for each in sorted(lost)]
    )


def write_shard(
    place: ResultsDir,
    index: int,
    shard: FittedRows,
    report: ShardReport,
    errors: Mapping[str, RequestError] = MappingProxyType({}),
    error_column: str | None = None,
    typed: Mapping[str, pa.DataType] = MappingProxyType({}),
    *,
    has_lineage: bool = True,
) -> ShardReport:
    """Write a shard durably, unless it is there; returns the report that stands.

    `errors` are those of rows that stand in for what failed, by the ids of the rows; they land in
    `error_column`. Columns of documents that are `typed` land once more, as such.

    Raises:
        StorageFull: there is no room.
    """
    if error_column in shard.columns:  # an input has brought a column of that name
        error_column = None
    data = _encode(shard, report, errors, error_column, typed, has_lineage=has_lineage)
    if _create(place, index, data):
        return report
    try:
        return read_report(place.part(index))
    except CorruptPart as error:
        logger.error("%s; it is written again", error)
        set_aside(place, index)
        return report if _create(place, index, data) else read_report(place.part(index))


def read_shard(path: Path, columns: Mapping[str, ColumnKind]) -> list[Row]:
    """Read the rows of a shard.

    Raises:
        CorruptPart: it is gone, or its bytes have changed.
    """
    table = read_part(path)
    decoded = {
        name: _decoded(table.column(name).to_pylist(), kind) for name, kind in columns.items()
    }
    ids, parents = table.column("row_id").to_pylist(), table.column("parents").to_pylist()
    names = list(decoded)
    values = zip(*decoded.values(), strict=True) if decoded else ((),) * len(ids)
    return [
        Row(row_id, dict(zip(names, each, strict=True)), tuple(of or ()))
        for row_id, of, each in zip(ids, parents, values, strict=True)
    ]


def read_report(path: Path) -> ShardReport:
    """Read how a shard came to be.

    Raises:
        CorruptPart: it is gone, or not one of ours.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return msgspec.json.decode(metadata[_REPORT_KEY], type=ShardReport)
    except (OSError, pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        raise CorruptPart(f"{path} is no shard of a step: {error!r}") from error


def _create(place: ResultsDir, index: int, data: bytes) -> bool:
    try:
        return create_file(place.part(index), data, temporary_dir=place.temporary)
    except FileNotFoundError:  # it is the first
        place.create()
        return create_file(place.part(index), data, temporary_dir=place.temporary)


def _fitted(rows: Sequence[Row], name: str, kind: ColumnKind) -> list[Any]:
    fit = _FITS[kind]
    return [fit(row.values.get(name)) for row in rows]


def _misfit(row: Row, name: str, columns: Mapping[str, ColumnKind]) -> Fault:
    what = f"{name} is null, for {row.values[name]!r:.80} is no {columns[name]}"
    return Fault(row.row_id, RequestError(OUT_OF_RANGE, what, stage="land"), stand_in=row.row_id)


def _encode(
    shard: FittedRows,
    report: ShardReport,
    errors: Mapping[str, RequestError],
    error_column: str | None,
    typed: Mapping[str, pa.DataType],
    *,
    has_lineage: bool,
) -> bytes:
    rows = shard.rows
    fields = [*(_LINEAGE if has_lineage else _LINEAGE[:2])]
    arrays: list[Any] = [[row.row_id for row in rows], [row.parent_id for row in rows]]
    if has_lineage:
        arrays.append([list(row.parents) or None for row in rows])
    for name, kind in shard.columns.items():
        fields.append(pa.field(name, _TYPES[kind]))
        arrays.append(shard.values[name])
    for name, kind in typed.items():
        fields.append(pa.field(name + PARSED, kind))
        arrays.append([parsed_value(text, kind) for text in shard.values[name]])
    if error_column is not None:
        found = [errors.get(row.row_id) for row in rows]
        fields.append(pa.field(error_column, ERROR_TYPE))
        arrays.append([None if error is None else error_fields(error) for error in found])
    schema = pa.schema(fields)
    table = pa.table(
        [pa.array(values, each.type) for values, each in zip(arrays, schema, strict=True)],
        schema=schema,
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, schema, compression="zstd", compression_level=3, write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        footer = {_REPORT_KEY: msgspec.json.encode(report), _SEAL_KEY: BLANK_SEAL.encode()}
        writer.add_key_value_metadata(footer)
    return sealed_part(sink.getvalue())


def _decoded(values: list[Any], kind: ColumnKind) -> list[Any]:
    if kind != "json":
        return values
    return [None if value is None else msgspec.json.decode(value) for value in values]


def _json(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, ValueError):  # a lone surrogate, or an integer of many digits
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def _string(value: Any) -> str | None:
    text = value if value is None or isinstance(value, str) else _json(value)
    return None if text is None else text.encode("utf-8", "replace").decode()


def _int(value: Any) -> int | None:
    return value if type(value) is int and value in _INT64 else None


def _float(value: Any) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _vector(value: Any) -> list[float] | None:
    return value if isinstance(value, list) else None


_FITS: Mapping[str, Any] = {
    "bool": _bool,
    "int64": _int,
    "float64": _float,
    "string": _string,
    "json": _json,
    "vector": _vector,
}
