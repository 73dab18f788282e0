"""Workflows that are kept under a name, each change as a version of its own. Knows no meaning.

workflows/<tenant>/<name>/000001.json    never changed; the newest is in force
"""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..jobs.durable import create_file, make_directories
from .errors import InvalidRequest, NotFound, shown

RESERVED = frozenset({"runs", "validate", "preview", "plan", "schema"})  # what routes are called
MAX_VERSIONS = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class StoredWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a workflow."""

    name: str
    version: int
    created_at: float
    workflow: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        """Return it as clients see it."""
        return {
            "id": self.name,
            "object": "workflow",
            "name": self.name,
            "version": self.version,
            "created_at": self.created_at,
            "workflow": self.workflow,
        }


class WorkflowStore:
    """The workflows of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, tenant: str, workflow: dict[str, Any]) -> StoredWorkflow:
        """Keep a checked specification under its name, durably; the same again is no new version.

        Raises:
            InvalidRequest: the name is one of our routes', or there are too many versions.
            StorageFull: there is no room.
        """
        name = workflow["name"]
        if name in RESERVED:
            raise InvalidRequest(f"a workflow cannot be called {name!r} here", param="workflow")
        place = self._place(tenant, name)
        while True:
            make_directories(place)
            newest = max(self._versions(place), default=0)
            if newest:
                found = self._read(place, newest)
                if found.workflow == workflow:
                    return found
            if newest >= MAX_VERSIONS:
                raise InvalidRequest(f"{name} has {MAX_VERSIONS:,} versions; take another name")
            stored = StoredWorkflow(
                name=name, version=newest + 1, created_at=time.time(), workflow=workflow
            )
            with suppress(FileNotFoundError):  # all of it was deleted just now: it is made anew
                if create_file(self._path(place, stored.version), msgspec.json.encode(stored)):
                    return stored

    def get(self, tenant: str, name: str, version: int | None = None) -> StoredWorkflow:
        """Return a version of a workflow, by default the newest.

        Raises:
            NotFound: there is none.
        """
        if _NAME.fullmatch(name):
            place = self._place(tenant, name)
            versions = self._versions(place)
            wanted = max(versions, default=None) if version is None else version
            if wanted in versions:
                return self._read(place, wanted)
        which = "" if version is None else f" with version {version}"
        raise NotFound(
            f"there is no workflow {shown(name)}{which}",
            param="workflow",
            code="workflow_not_found",
        )

    def delete(self, tenant: str, name: str) -> None:
        """Forget a workflow with all its versions; runs have their own copy, and go on.

        Raises:
            NotFound: there is none.
        """
        self.get(tenant, name)
        place = self._place(tenant, name)
        for version in self._versions(place):
            self._path(place, version).unlink(missing_ok=True)
        with suppress(OSError):  # somebody keeps another of this name in this moment
            place.rmdir()

    def list(self, tenant: str) -> "list[StoredWorkflow]":
        """Return the newest version of each workflow, by name."""
        directory = self._directory / tenant
        if not directory.is_dir():
            return []
        names = sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))
        places = [self._place(tenant, name) for name in names]
        return [
            self._read(place, max(versions))
            for place in places
            if (versions := self._versions(place))
        ]

    def _place(self, tenant: str, name: str) -> Path:
        return self._directory / tenant / name

    def _path(self, place: Path, version: int) -> Path:
        return place / f"{version:06}.json"

    def _versions(self, place: Path) -> set[int]:
        return {int(path.stem) for path in place.glob("[0-9]*.json")} if place.is_dir() else set()

    def _read(self, place: Path, version: int) -> StoredWorkflow:
        content = self._path(place, version).read_bytes()
        return msgspec.json.decode(content, type=StoredWorkflow)
