"""Whether rows are those that a job, or a run, was made of. Reads both as streams; changes nothing.

The sealed input itself is what they are held against, so that this works for all that is on disk.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from .inputs import InputRow, InputRows
from .job_dir import JobDir
from .model import RejectedLine
from .sealed_input import SealedInput


def is_input_of(job_dir: JobDir, items: InputRows) -> bool:
    """Tell whether a job was made of just these rows and lines; see `is_same_input`."""
    return is_same_input(job_dir.input, job_dir.read_bad_lines(), items)


def is_same_input(
    path: Path, rejected: Iterator[RejectedLine], items: Iterable[InputRow | RejectedLine]
) -> bool:
    """Tell whether what was sealed came of just these rows, and of these lines that became none.

    Raises:
        CorruptInput: what was sealed cannot be read back.
        UnreadableInput: the other one breaks off.
    """
    with SealedInput(path) as sealed:
        kept = _kept(sealed)
        for row_index, item in enumerate(items):
            row = row_json(item) if isinstance(item, InputRow) else item
            if isinstance(row, RejectedLine):  # another version may word its reason otherwise
                earlier = next(rejected, None)
                is_same = earlier is not None and earlier.line == row.line
            else:
                is_same = next(kept, None) == (row_index, row)
            if not is_same:
                return False
        return next(kept, None) is None and next(rejected, None) is None


def row_json(item: InputRow) -> str | RejectedLine:
    """Write a row as it is sealed, or say why it cannot be."""
    try:
        return msgspec.json.encode(item.row).decode()
    except (ValueError, RecursionError) as error:
        return RejectedLine(item.line, f"cannot be kept as JSON: {error}"[:300])


def _kept(sealed: SealedInput) -> Iterator[tuple[int, str]]:
    for index in range(sealed.num_shards):
        for row in sealed.shard(index):
            yield row.row_index, msgspec.json.encode(row.row).decode()
