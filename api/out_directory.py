"""The directory that a command brings rows to. Knows files and what has rows; prints nothing."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from . import tables
from .cli_options import UsageProblem
from .client_errors import PenstockError
from .home_path import at_home
from .payloads import is_remote

if TYPE_CHECKING:
    import pyarrow as pa


class HasRows(Protocol):
    """A job, or a run of a workflow."""

    @property
    def id(self) -> str:
        """What the server calls it."""
        ...

    def to_arrow(self) -> "pa.Table":
        """Give all rows."""
        ...


def directory_of(out: str) -> Path | None:
    """Give the directory of this machine that is meant, tried; None where rows go to a store.

    Raises:
        UsageProblem: it cannot be made, or not be written to.
        InvalidInput: it is in the home directory of nobody who is known.
    """
    if is_remote(out):
        return None
    directory = at_home(out).absolute()
    check_writable(directory)
    return directory


def check_writable(directory: Path) -> None:
    """Try to write there before anything is asked of a server, and leave nothing behind.

    Raises:
        UsageProblem: it cannot be made, or not be written to.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        for path in missing:  # the innermost first
            path.rmdir()
    except OSError as error:
        why = error.strerror or error
        raise UsageProblem(f"cannot write to {directory}: {why}; choose another --out") from error


def bring_rows(source: HasRows, path: Path) -> None:
    """Write the rows of a server elsewhere as one Parquet file, unless they are there.

    Raises:
        PenstockError: the file cannot be written; the rows are where they were.
    """
    if path.exists():
        return
    try:
        tables.save_parquet(source.to_arrow(), path)
    except OSError as error:
        raise PenstockError(
            f"cannot write {path}: {error.strerror or error}; the server keeps the rows: "
            f"penstock results {source.id} -o json > rows.jsonl"
        ) from error
