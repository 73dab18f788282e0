"""Names in the directory that a job's results land in. Knows paths only, no Parquet and no table.

<out>/<job_id>/rows/part-000012.parquet    shard 12, whole
<out>/<job_id>/_tmp/                       on their way; nothing that reads `rows` sees them
<out>/<job_id>/_damaged/                   parts whose bytes had changed, if there ever were any
<out>/<job_id>/_published.jsonl            what has been copied to an object store, if one is named
<out>/<job_id>/_manifest.json, _SUCCESS    written when the last shard has landed

Parts stay as they landed and are not merged afterwards. Several files cannot be exchanged for one
in a single step that holds for whoever lists `rows` or is at work on an older listing; and parts as
small as a shard are what lets rows be read early, repaired and retried.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Self

from .durable import fsync_directory, make_directories, storage_errors
from .model import JobSpec

_PART_NAME = re.compile(r"part-(\d{6,})\.parquet")


class ResultsDir:
    """Where the rows of one job land."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = path / "rows"
        self.temporary = path / "_tmp"
        self.damaged = path / "_damaged"
        self.manifest = path / "_manifest.json"
        self.success = path / "_SUCCESS"
        self.published = path / "_published.jsonl"

    @classmethod
    def of(cls, spec: JobSpec) -> Self:
        """Name the directory of a job."""
        return cls(Path(spec.out) / spec.job_id)

    def create(self) -> None:
        """Make the directories that landing needs; that of the rows is durable then.

        Raises:
            StorageFull: there is no room.
        """
        make_directories(self.rows)
        with storage_errors(self.temporary):
            self.temporary.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Remove everything, landed rows included."""
        shutil.rmtree(self.path, ignore_errors=True)

    def withdraw(self, index: int) -> None:
        """Take back a part that came too late, and the directories if nothing else is in them."""
        self.part(index).unlink(missing_ok=True)
        for directory in (self.rows, self.temporary, self.path):
            with suppress(OSError):  # not empty, or gone
                directory.rmdir()

    def remove_temporary(self) -> None:
        """Sweep what killed writers left behind."""
        shutil.rmtree(self.temporary, ignore_errors=True)

    def remove_empty_temporary(self) -> None:
        """Remove the directory of what is on its way, unless something is.

        Whoever is to write there next makes it again.
        """
        with suppress(OSError):  # not empty, or gone: either way there is nothing to do
            self.temporary.rmdir()

    def part(self, index: int) -> Path:
        """Name the part of one shard."""
        return self.rows / f"part-{index:06}.parquet"

    def parts(self) -> dict[int, Path]:
        """Find the parts that have landed, by shard in ascending order."""
        if not self.rows.is_dir():
            return {}
        found = ((_PART_NAME.fullmatch(path.name), path) for path in self.rows.iterdir())
        return dict(sorted((int(match[1]), path) for match, path in found if match))

    def durable_parts(self) -> dict[int, Path]:
        """Find the parts that have landed, and see to it that their names last as their bytes do.

        Whoever linked one of them may have died before that.
        """
        found = self.parts()
        if found:
            fsync_directory(self.rows)
        return found
