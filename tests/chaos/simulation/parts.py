"""Parts in a form that costs nothing to write: JSON with the footer that Parquet would have."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow as pa

from penstock.jobs.landing import LandedRow
from penstock.jobs.model import JobSpec
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.part_file import footer_fields
from penstock.jobs.seal import sealed

COLUMNS = ["row_index", "sample_index", "status", "output"]


def encode(spec: JobSpec, counts: PartCounts, rows: Iterable[LandedRow]) -> bytes:
    """Stand in for `landing._encode`."""
    ordered = sorted(rows, key=lambda row: (row.row_index, row.sample_index))
    return _encode(counts, [[getattr(row, name) for name in COLUMNS] for row in ordered])


def _encode(counts: PartCounts, rows: list[list[Any]], retry: str | None = None) -> bytes:
    fields = footer_fields(counts, retry)
    footer = {name.decode(): value.decode() for name, value in fields.items()}
    return sealed(msgspec.json.encode({"rows": rows, "footer": footer}))


def encode_table(
    _: JobSpec, counts: PartCounts, rows: pa.Table, *, retry: str | None = None
) -> bytes:
    """Stand in for `joining.encode_part`."""
    ordered = rows.select(COLUMNS).to_pylist()
    return _encode(counts, [[row[name] for name in COLUMNS] for row in ordered], retry)


class PartReader:
    """Stands in for `pyarrow.parquet.ParquetFile`."""

    def __init__(self, source: pa.BufferReader, *, page_checksum_verification: bool) -> None:
        self._rows = msgspec.json.decode(source.read())["rows"]

    def read(self) -> pa.Table:
        return pa.Table.from_pylist(
            [_facts(dict(zip(COLUMNS, row, strict=True))) for row in self._rows]
        )


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row what joining adds up."""
    error = {"code": "simulated", "message": ""} if row["status"] == "failed" else None
    tokens = dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens"), 0)
    return {**row, **tokens, "error": error, "attempts": 1, "started_at": None}


def read_metadata(source: pa.BufferReader) -> Any:
    """Stand in for `pyarrow.parquet.read_metadata`."""
    footer = msgspec.json.decode(source.read())["footer"]
    return SimpleNamespace(metadata={k.encode(): v.encode() for k, v in footer.items()})
