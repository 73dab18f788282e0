"""All that a step could not do, as Parquet files beside its rows. Knows no step's meaning.

steps/<step>/failed/part-000012.parquet    what failed as shard 12 was made; none where nothing did
    row_id      string                     the row that the step could not do its work for
    outcome     string                     kept, defaulted, dropped or fatal: see `Fault`
    error       struct                     code, message, stage

A step that gathers fills one file after the other, whatever shards its rows come to lie in. A file
is there before the rows are, so whoever sees a shard sees all that failed in it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ...durable import make_directories, replace_file
from ...model import RequestError
from ...part_file import read_part, sealed_part
from ...results_dir import ResultsDir
from ...seal import BLANK_SEAL
from ..row import Fault
from .shard_report import shortened

MAX_FAULTS = 10_000  # of a step that gathers, in one file

ErrorFields: TypeAlias = dict[str, str]

ERROR_TYPE = pa.struct([("code", pa.string()), ("message", pa.string()), ("stage", pa.string())])

_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("error", ERROR_TYPE, nullable=False),
    ]
)
_PART_NAME = re.compile(r"part-(\d{6,})\.parquet")


def error_fields(error: RequestError) -> ErrorFields:
    """Return an error as it lies in Parquet."""
    message = shortened(error.message).encode("utf-8", "replace").decode()
    return {"code": error.code, "message": message, "stage": error.stage}


def write_faults(place: ResultsDir, index: int, faults: Sequence[Fault]) -> None:
    """Write what failed durably, if anything did; it takes the place of what was written before.

    Raises:
        StorageFull: there is no room.
    """
    if not faults:
        return
    rows = [
        {
            "row_id": fault.row_id.encode("utf-8", "replace").decode(),
            "outcome": fault.outcome,
            "error": error_fields(fault.error),
        }
        for fault in faults
    ]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, _SCHEMA, compression="zstd", compression_level=3, write_page_checksum=True
    ) as writer:
        writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
        writer.add_key_value_metadata({b"penstock.seal": BLANK_SEAL.encode()})
    place.create()
    make_directories(_directory(place))
    path = _directory(place) / f"part-{index:06}.parquet"
    replace_file(path, sealed_part(sink.getvalue()), temporary_dir=place.temporary)


def fault_files(place: ResultsDir) -> dict[int, Path]:
    """Find what has failed of a step, by number in ascending order."""
    directory = _directory(place)
    if not directory.is_dir():
        return {}
    found = ((_PART_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def read_faults(path: Path) -> list[Fault]:
    """Read what failed.

    Raises:
        CorruptPart: it is gone, or its bytes have changed.
    """
    return [_fault(row) for row in read_part(path).to_pylist()]


class FaultFiles:
    """Writes what fails in a step that gathers, file by file; `close` writes the rest."""

    def __init__(self, place: ResultsDir) -> None:
        self._place = place
        self._faults: list[Fault] = []
        self._num_files = 0

    def add(self, faults: Sequence[Fault]) -> None:
        """Take note of some more.

        Raises:
            StorageFull: there is no room.
        """
        self._faults += faults
        if len(self._faults) >= MAX_FAULTS:
            self.close()

    def close(self) -> None:
        """Write what has not been written.

        Raises:
            StorageFull: there is no room.
        """
        write_faults(self._place, self._num_files, self._faults)
        self._num_files += bool(self._faults)
        self._faults = []


def _fault(row: dict[str, Any]) -> Fault:
    error = msgspec.convert(row["error"], RequestError)
    return Fault(row["row_id"], error, row["outcome"])


def _directory(place: ResultsDir) -> Path:
    return place.path / "failed"
