"""The first rows of what a caller holds, and how many there are: enough to try a workflow on.

Reads a file no further than it must; what the server fetches itself is left to it.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ..jobs.json_elements import BrokenArray, begins_array, elements
from .client_errors import InvalidInput, MissingPackage
from .payloads import ArrowStream, JobInput, LazyTable, is_elsewhere, is_remote

SAMPLED_ROWS = 200

_PARQUET = frozenset({".parquet", ".pq"})
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_LONGEST_ROW = 16 << 20  # bytes
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 4096


def sample_of(rows: JobInput, num_rows: int = SAMPLED_ROWS) -> dict[str, Any]:
    """Give the first rows as the server takes an input. Of an iterator, these are then gone.

    Raises:
        InvalidInput: the rows cannot be read, or there are none.
        MissingPackage: pyarrow is needed for these.
    """
    if is_remote(rows):
        return {"path": rows}
    found = [_as_json(row) for row in islice(_rows(rows), num_rows)]
    if not found:
        raise InvalidInput(f"there are no rows in {rows!r:.80}")
    return {"rows": found}


def count_of(rows: JobInput) -> int | None:
    """Count the rows, where that can be told without reading all of them as rows."""
    if is_remote(rows) or is_elsewhere(rows):
        return None
    if isinstance(rows, str | Path):
        path = Path(rows).expanduser()
        if path.suffix.lower() in _PARQUET:
            return _parquet(path).metadata.num_rows
        if path.suffix.lower() in _SEPARATORS:
            return max(0, _num_lines(path) - 1)
        return sum(1 for _ in _array_in(path)) if _is_array(path) else _num_lines(path)
    return len(rows) if isinstance(rows, Sized) else None


def _rows(rows: JobInput) -> Iterator[Mapping[str, Any]]:
    if is_elsewhere(rows):
        raise InvalidInput(f"cannot try {rows!r:.100}: download it first, or give some of its rows")
    if isinstance(rows, str | Path):
        yield from _rows_in(Path(rows).expanduser())
    elif isinstance(rows, ArrowStream):
        for batch in _arrow("pyarrow").RecordBatchReader.from_stream(rows):
            yield from batch.to_pylist()
    elif isinstance(rows, LazyTable):
        yield from _rows(rows.collect())  # pyright: ignore[reportAttributeAccessIssue]
    else:
        yield from _mappings(rows)


def _mappings(rows: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidInput(f"row {number} must be a mapping, got {type(row).__name__}")
        yield row


def _rows_in(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() in _PARQUET:
        for batch in _parquet(path).iter_batches(batch_size=SAMPLED_ROWS):
            yield from batch.to_pylist()
        return
    separator = _SEPARATORS.get(path.suffix.lower())
    if separator is None and _is_array(path):
        yield from filter(None, map(_json_row, _array_in(path)))
        return
    with _open(path) as file:
        lines = (line.decode("utf-8-sig" if not number else "utf-8", "replace")
                 for number, line in enumerate(file))  # fmt: skip
        if separator is not None:
            yield from csv.DictReader(lines, delimiter=separator)
        else:
            yield from filter(None, map(_json_row, lines))


def _is_array(path: Path) -> bool:
    with _open(path) as file:
        return begins_array(file.read(_HEAD_BYTES))


def _array_in(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as file:
            yield from (element.text for element in elements(file, _LONGEST_ROW))
    except BrokenArray as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error


def _json_row(line: str | bytes) -> Mapping[str, Any] | None:
    """Read a line; one that is no row will be reported when all of them are sent."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _as_json(row: Mapping[str, Any]) -> Any:
    try:
        return json.loads(json.dumps(dict(row), default=str))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a row cannot be written as JSON: {error}") from error


def _num_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with _open(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            count, last = count + chunk.count(b"\n"), chunk
    return count + (not last.endswith(b"\n"))


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error


def _parquet(path: Path) -> Any:
    try:
        return _arrow("pyarrow.parquet").ParquetFile(path)
    except (OSError, _arrow("pyarrow").ArrowException) as error:
        raise InvalidInput(f"cannot read {path} as Parquet: {error}") from error


def _arrow(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(
            "reading rows of Parquet or a data frame needs pyarrow: pip install pyarrow"
        ) from error
