"""A directory with a link to where its rows land. Knows no job, no run, and none of the rows."""

from pathlib import Path

from .durable import storage_errors


class LinkedResults:
    """A directory that notes where its rows land, for the sweep and for people."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results"

    def link_results(self, path: Path) -> None:
        """Note where the rows are going to land, before anything is made there.

        Raises:
            StorageFull: there is no room.
        """
        with storage_errors(self.path):
            self.results.symlink_to(path)

    def linked_results(self) -> Path | None:
        """Return what `link_results` noted."""
        return self.results.readlink() if self.results.is_symlink() else None
