"""The input of a verb as a file that can be read twice: what comes through a pipe is kept first.

Knows files only; rows in an object store, on the web or on the hub are left as they are named.
"""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..jobs.input_format import HEAD_BYTES, foreign_to, format_of
from .client_errors import InvalidInput
from .home_path import at_home
from .payloads import is_elsewhere, is_remote

STDIN = "-"
_FORMAT = "jsonl"  # what most programs write


def is_piped(rows: str) -> bool:
    """Tell whether rows come through a pipe, and so once: `-` is the standard input.

    Raises:
        InvalidInput: they are in the home directory of nobody who is known.
    """
    if is_remote(rows) or is_elsewhere(rows):
        return False
    if rows == STDIN:
        return True
    try:
        mode = at_home(rows).stat().st_mode
    except OSError:
        return False  # whoever reads it says what is wrong
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_readable(rows: str) -> None:
    """Open a file of this machine once, before anything is started for it.

    Raises:
        InvalidInput: there is no such file, or it cannot be opened.
    """
    if is_remote(rows) or is_elsewhere(rows) or is_piped(rows):
        return
    path = at_home(rows)
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def input_file(rows: str, file_format: str | None) -> Iterator[str]:
    """Give the name of a file with the rows; of a pipe all is kept for as long as the block lasts.

    Raises:
        InvalidInput: nobody writes to the standard input, or it cannot be read, or is no such rows.
    """
    if not is_piped(rows):
        yield rows
        return
    if rows == STDIN and sys.stdin.isatty():
        raise InvalidInput("- reads rows from a pipe, as in: penstock submit - < rows.jsonl")
    with tempfile.TemporaryDirectory(prefix="penstock-input-") as directory:
        kept = Path(directory, f"rows.{file_format or _FORMAT}")
        try:
            source = sys.stdin.fileno() if rows == STDIN else at_home(rows)
            with open(source, "rb", closefd=rows != STDIN) as pipe, kept.open("wb") as file:
                if stat.S_ISCHR(os.fstat(pipe.fileno()).st_mode) and not pipe.isatty():
                    raise InvalidInput(f"cannot read {rows}: it is a device; name a file or a pipe")
                shutil.copyfileobj(pipe, file)
        except OSError as error:
            raise InvalidInput(f"cannot read {rows}: {error.strerror or error}") from error
        _check_kept(rows, kept, file_format)
        yield str(kept)


def _check_kept(rows: str, kept: Path, file_format: str | None) -> None:
    """Say here what is wrong: whoever reads the kept file knows neither the pipe nor options."""
    with kept.open("rb") as file:
        head = file.read(HEAD_BYTES)
    what = "the pipe" if rows == STDIN else rows
    if file_format != "parquet" and format_of("", head) == "parquet":
        raise InvalidInput(f"cannot read {what} as {file_format or _FORMAT}: say --format parquet")
    if reason := foreign_to(file_format or _FORMAT, head):
        raise InvalidInput(f"cannot read {what}: {reason}")
