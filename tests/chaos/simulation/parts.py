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


def encode(spec: JobSpec, counts: PartCounts, rows: Iterable[LandedRow]) -> bytes:
    """Stand in for `landing._encode`."""
    ordered = sorted(rows, key=lambda row: (row.row_index, row.sample_index))
    footer = {name.decode(): value.decode() for name, value in footer_fields(counts).items()}
    values = [[row.row_index, row.sample_index, row.status, row.output] for row in ordered]
    return sealed(msgspec.json.encode({"rows": values, "footer": footer}))


def read_metadata(source: pa.BufferReader) -> Any:
    """Stand in for `pyarrow.parquet.read_metadata`."""
    footer = msgspec.json.decode(source.read())["footer"]
    return SimpleNamespace(metadata={k.encode(): v.encode() for k, v in footer.items()})
