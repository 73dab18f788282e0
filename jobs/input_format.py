"""Which format an input has, by its name or its first bytes, and what is none. Reads no row.

Only standard library, so that a light client can tell as the server does.
"""

from pathlib import PurePath
from typing import Literal, get_args

from .json_elements import BOM, begins_array

Format = Literal["jsonl", "parquet", "csv", "tsv"]

FORMATS: tuple[Format, ...] = get_args(Format)
HEAD_BYTES = 4096  # that are enough to tell
SAY_FORMAT = "name it .jsonl, .csv, .tsv or .parquet, or say format"
_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
_PARQUET_MAGIC = b"PAR1"
_PARQUET_BEGINS = _PARQUET_MAGIC + b"\x15"  # a page's header: no text begins so
_FOREIGN = {
    b"\x1f\x8b": "it is compressed with gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd: decompress it first",
    **dict.fromkeys(
        (b"BZh%d1AY&SY" % level for level in range(1, 10)),
        "it is compressed with bzip2: decompress it first",
    ),
    b"\xfd7zXZ\x00": "it is compressed with xz: decompress it first",
    b"PK\x03\x04": "it is a ZIP archive or a spreadsheet: export it as CSV",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet or a document of Office: export it as CSV",
    b"ARROW1\x00\x00": "it is an Arrow or Feather file: write it as Parquet",
    b"SQLite format 3\x00": "it is an SQLite database: export a table of it as CSV",
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
}


def format_of(name: str, head: bytes) -> Format | None:
    """Tell the format of a file by its suffix, else by its first bytes; None if neither tells."""
    return _FORMAT_OF_SUFFIX.get(PurePath(name).suffix.lower()) or _sniffed(head)


def foreign_to(format: str | None, head: bytes) -> str | None:
    """Tell from the first bytes why this cannot be an input of the format; None if it may be."""
    if not head:
        return "it is empty"
    for magic, reason in _FOREIGN.items():
        if head.startswith(magic):
            return reason
    if format in ("jsonl", "csv", "tsv"):
        if head.startswith(_PARQUET_BEGINS):
            return "it is Parquet, whatever its name says: name it .parquet, or say format"
        if head[:4].count(0) >= 2:  # UTF-16 may not say so
            return "it holds zero bytes, as UTF-16 does: save it as UTF-8"
    return None


def _sniffed(head: bytes) -> Format | None:
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    is_json = head.removeprefix(BOM).lstrip().startswith(b"{") or begins_array(head)
    return "jsonl" if is_json else None
