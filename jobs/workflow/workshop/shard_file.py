"""The rows of one shard of a step, as a Parquet file. Knows no step's meaning.

row_id, parent_id    strings      the row, and the one that it was made from
parents              list         of a group's row, those that it was made of
...                               the columns of the plan, in its order; json as text

A value that its column cannot hold is null, and its row counts as failed. The footer says how the
shard came to be (`ShardReport`), and is sealed.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ...durable import create_file
from ...found_part import set_aside
from ...part_file import CorruptPart, read_part, sealed_part
from ...results_dir import ResultsDir
from ...seal import BLANK_SEAL
from ..plan import ColumnKind
from ..row import Row

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


ToldFault: TypeAlias = tuple[str, str, str]  # row, code, message
MAX_EXAMPLES = 10  # of a step's faults that are told in words


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a step did to one shard. Sums of these are what a run's progress tells.

    Attributes:
        rows_in: rows that came.
        rows_out: rows that go on.
        dropped: rows left out on purpose, as by a filter.
        failed: rows for which the step could not do its work, by error code in `errors`.
        cached: requests that an earlier run had answered.
        fatal: the fault that ends the run, where the step may not fail: row, code and message.
        examples: the first faults, each as row, code and message.
    """

    rows_in: int = 0
    rows_out: int = 0
    dropped: int = 0
    failed: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    asked: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    fatal: ToldFault | None = None
    examples: tuple[ToldFault, ...] = ()


def summed(reports: Iterable[ShardReport]) -> ShardReport:
    """Add up what a step did to several shards."""
    sums: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    fatal = None
    examples: list[ToldFault] = []
    for report in reports:
        sums.update({name: getattr(report, name) for name in _SUMMED})
        errors.update(report.errors)
        fatal = fatal or report.fatal
        examples += report.examples[: MAX_EXAMPLES - len(examples)]
    return ShardReport(
        **{name: sums[name] for name in _SUMMED},
        errors=dict(errors),
        fatal=fatal,
        examples=tuple(examples),
    )


_SUMMED = (
    *("rows_in", "rows_out", "dropped", "failed", "asked", "cached"),
    *("prompt_tokens", "completion_tokens", "cached_tokens"),
)


def write_shard(
    place: ResultsDir,
    index: int,
    rows: Sequence[Row],
    columns: Mapping[str, ColumnKind],
    report: ShardReport,
    *,
    has_lineage: bool = True,
) -> ShardReport:
    """Write a shard durably, unless it is there; returns the report that stands.

    Rows with values that do not fit are added to those that failed.

    Raises:
        StorageFull: there is no room.
    """
    fitted = {name: _fitted(rows, name, kind) for name, kind in columns.items()}
    report = _with_misfits(place.part(index), rows, columns, fitted, report)
    data = _encode(rows, columns, fitted, report, has_lineage=has_lineage)
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


def _with_misfits(
    path: Path,
    rows: Sequence[Row],
    columns: Mapping[str, ColumnKind],
    fitted: Mapping[str, list[Any]],
    report: ShardReport,
) -> ShardReport:
    """Count the rows of which a value was lost, so that none is lost in silence."""
    misfits: set[int] = set()
    for name, values in fitted.items():
        lost = [
            position
            for position, value in enumerate(values)
            if value is None and rows[position].values.get(name) is not None
        ]
        if lost:
            row = rows[lost[0]]
            logger.warning(
                "%s: %d values of the column %s are null, as they are no %s: in row %s %.80r",
                path, len(lost), name, columns[name], row.row_id, row.values[name],
            )  # fmt: skip
        misfits.update(lost)
    if not misfits:
        return report
    num_before = report.errors.get(OUT_OF_RANGE, 0)
    return replace(
        report,
        failed=report.failed + len(misfits),
        errors={**report.errors, OUT_OF_RANGE: num_before + len(misfits)},
    )


def _encode(
    rows: Sequence[Row],
    columns: Mapping[str, ColumnKind],
    fitted: Mapping[str, list[Any]],
    report: ShardReport,
    *,
    has_lineage: bool,
) -> bytes:
    lineage = _LINEAGE if has_lineage else _LINEAGE[:2]
    schema = pa.schema(
        [*lineage, *(pa.field(name, _TYPES[kind]) for name, kind in columns.items())]
    )
    arrays: list[Any] = [[row.row_id for row in rows], [row.parent_id for row in rows]]
    if has_lineage:
        arrays.append([list(row.parents) or None for row in rows])
    arrays += fitted.values()
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
