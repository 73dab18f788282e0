"""A part that is there already: taken over as it is, or out of the way if it is damaged.

rows/part-000012.parquet   intact  -> its counts stand, whoever wrote it
                           damaged -> _damaged/part-000012.<random>.parquet; the shard runs again
"""

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from .durable import fsync_directory, make_directories
from .part_counts import PartCounts
from .part_file import CorruptPart, part_counts
from .results_dir import ResultsDir

logger = logging.getLogger(__name__)


def found_counts(results: ResultsDir, index: int) -> PartCounts | None:
    """Read what the part of a shard adds; None if there is none, or none that is intact.

    Its name is then as durable as its bytes: whoever linked it may have died before that.

    Raises:
        StorageFull: it is damaged, and there is no room to set it aside.
    """
    part = results.part(index)
    if not part.exists():
        return None
    fsync_directory(part.parent)
    try:
        return part_counts(part)
    except CorruptPart as error:
        logger.error("%s; it is set aside, and its shard runs again", error)
        set_aside(results, index)
        return None


def set_aside(results: ResultsDir, index: int) -> None:
    """Take the damaged part of a shard out of its readers' way, and keep it for whoever asks why.

    Raises:
        StorageFull: there is no room for its new name.
    """
    part = results.part(index)
    make_directories(results.damaged)
    aside = results.damaged / f"{part.stem}.{secrets.token_hex(4)}.parquet"
    with suppress(FileNotFoundError):  # somebody else has done it
        part.rename(aside)
        _put_back_if_intact(results, index, aside)
    fsync_directory(part.parent)


def _put_back_if_intact(results: ResultsDir, index: int, aside: Path) -> None:
    """Undo it if an intact part had taken the place of the damaged one just before."""
    try:
        part_counts(aside)
    except CorruptPart:
        return
    with suppress(FileExistsError):  # and one more had come since
        os.link(aside, results.part(index))
    aside.unlink()
