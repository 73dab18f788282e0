"""A file of this machine, as far as a trial of a workflow needs it: first rows, and their number.

What the server will not take as a file is refused in the same words; lines that cannot become rows
are passed over, and told of when all of them are sent. Needs pyarrow for Parquet alone.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn, cast

from ..jobs.csv_rows import read_csv
from ..jobs.input_format import HEAD_BYTES, SAY_FORMAT, foreign_to, format_of
from ..jobs.input_row import MAX_LINE_BYTES, InputRow, UnreadableInput
from ..jobs.json_elements import BrokenArray, begins_array, elements
from ..jobs.text_lines import text_lines
from .client_errors import InvalidInput, MissingPackage
from .open_inputs import open_path

_BATCH_ROWS = 200
_CHUNK_BYTES = 1 << 20


def first_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a file, which is read no further than they are asked for.

    Raises:
        InvalidInput: it cannot be read, or holds no rows in any format known.
        MissingPackage: pyarrow is needed for it.
    """
    with _opened(path) as (file, format):
        match format:
            case "parquet":
                with _parquet(file, path) as parquet:
                    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
                        yield from batch.to_pylist()
            case "csv" | "tsv":
                for item in read_csv(file, path.name, "\t" if format == "tsv" else ","):
                    if isinstance(item, InputRow):
                        yield item.row
            case "jsonl" if _holds_array(file):
                yield from _json_rows(each.text for each in elements(file, MAX_LINE_BYTES))
            case _:
                yield from _json_rows(text for _, text in text_lines(file, MAX_LINE_BYTES))


def num_rows_in(path: Path) -> int:
    """Count rows; of CSV and TSV its lines, which may be more. Raises as `first_rows`."""
    with _opened(path) as (file, format):
        if format == "parquet":
            with _parquet(file, path) as parquet:
                return parquet.metadata.num_rows
        if format == "jsonl" and _holds_array(file):
            return sum(1 for _ in elements(file, MAX_LINE_BYTES))
        if format == "jsonl":
            return sum(1 for _, text in text_lines(file, MAX_LINE_BYTES) if text)
        return max(0, _num_lines(file) - 1)  # without the header


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, str]]:
    """Open a file, unpacked, and tell its format."""
    is_packed = path.suffix.lower() == ".gz"
    name = path.stem if is_packed else path.name
    try:
        with open_path(path) as packed:
            # Both can be peeked into, which a pipe bears; a GzipFile is read as a file is.
            file = cast(BufferedReader, gzip.GzipFile(fileobj=packed) if is_packed else packed)
            head = file.peek(HEAD_BYTES)[:HEAD_BYTES]
            format = format_of(name, head)
            if reason := foreign_to(format, head):
                raise InvalidInput(f"cannot read {path}: {reason}")
            if format is None:
                raise InvalidInput(f"cannot tell the format of {path}: {SAY_FORMAT}")
            yield file, format
    except (BrokenArray, OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error
    except UnreadableInput as error:
        raise InvalidInput(str(error)) from error


def _holds_array(file: BufferedReader) -> bool:
    return begins_array(file.peek(HEAD_BYTES)[:HEAD_BYTES])


def _json_rows(texts: Iterable[bytes | None]) -> Iterator[Mapping[str, Any]]:
    for text in texts:
        try:
            row = json.loads(text or b"null", parse_constant=_refused)
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError):  # half a character, say, or no JSON at all
            continue
        if isinstance(row, dict):
            yield row


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _num_lines(file: BufferedReader) -> int:
    count, last = 0, b"\n"
    while chunk := file.read(_CHUNK_BYTES):
        count, last = count + chunk.count(b"\n"), chunk
    return count + (not last.endswith(b"\n"))


@contextmanager
def _parquet(file: BufferedReader, path: Path) -> Iterator[Any]:
    damage = (OSError, UnicodeDecodeError, arrow("pyarrow").ArrowException)
    try:
        yield arrow("pyarrow.parquet").ParquetFile(file)
    except damage as error:
        raise InvalidInput(f"cannot read {path} as Parquet: {error}") from error


def arrow(name: str) -> Any:
    """Load a module of pyarrow.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(
            "reading rows of Parquet or a data frame needs pyarrow: pip install pyarrow"
        ) from error
