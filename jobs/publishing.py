"""Publishes a complete job in an object store: the parts, then the manifest, then `_SUCCESS`.

Rows always land on a file system first. What makes a part count once is an exclusive link, and
there is no such thing that all kinds of S3 agree on; so the disk decides which bytes a part has,
and these are copied. A copy can be repeated at any time: whoever was killed in the middle goes on,
and the job is not complete before all of it is there.

<results>/_published.jsonl   which bytes have gone where, so that they go once
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from .durable import storage_errors
from .file_lock import file_lock
from .model import JobSpec
from .object_store import ObjectStore, StorePlace
from .part_file import PartFacts
from .results_dir import ResultsDir
from .settings import Settings

_MAX_UPLOADS = 8  # side by side


class _Published(msgspec.Struct, frozen=True):
    """Bytes that have gone up."""

    url: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a copy must have to be one."""

    sha256: str
    num_bytes: int


def store_of(settings: Settings, spec: JobSpec) -> ObjectStore | None:
    """Return where a job is published; None if its rows stay on the disk."""
    if spec.out_url is None:
        return None
    place = StorePlace.parse(f"{spec.out_url}/{spec.job_id}")
    return ObjectStore(place, settings.s3_endpoint)


def publish(settings: Settings, spec: JobSpec, parts: dict[int, PartFacts]) -> bool:
    """Copy a job whose manifest stands on the disk, as far as it has not been copied yet.

    Returns whether all of it is there; if not, somebody else is at it.

    Raises:
        StoreUnavailable: the store refuses or does not answer; nothing is lost, try again later.
        StorageFull: there is no room to note what has been copied.
    """
    store = store_of(settings, spec)
    if store is None:
        return True
    results = ResultsDir.of(spec)
    files = {
        f"{results.rows.name}/{results.part(index).name}": FileFacts(part.sha256, part.num_bytes)
        for index, part in parts.items()
    }
    return publish_files(store, results, files)


def publish_files(
    store: ObjectStore,
    results: ResultsDir,
    files: dict[str, FileFacts],
    is_wanted: Callable[[], bool] = lambda: True,
) -> bool:
    """Copy files, by their names below `results`, then the manifest, then `_SUCCESS`.

    Returns whether all of it is there; if not, somebody else is at it, or it is not wanted any
    more: `is_wanted` is asked before each of them.

    Raises:
        StoreUnavailable, StorageFull: as `publish`.
    """
    with file_lock(results.published) as notes:
        if notes is None:
            return False
        waiting = _not_published(results, store, files)
        if waiting:
            store.remove(results.success.name)  # of an earlier end, before some rows were retried
        with ThreadPoolExecutor(_MAX_UPLOADS, "publisher") as uploads:
            upload = partial(_upload, store, results, notes, is_wanted)
            list(uploads.map(upload, waiting, waiting.values()))  # or what one raised is lost
        for path in (results.manifest, results.success):
            if not is_wanted():
                return False
            store.put(path, path.name)
    return True


def _upload(
    store: ObjectStore,
    results: ResultsDir,
    notes: int,
    is_wanted: Callable[[], bool],
    name: str,
    sha256: str,
) -> None:
    if not is_wanted():
        return
    store.put(results.path / name, name)
    with storage_errors(results.published):
        os.write(notes, msgspec.json.encode(_Published(str(store.place), name, sha256)) + b"\n")


def _not_published(
    results: ResultsDir, store: ObjectStore, files: dict[str, FileFacts]
) -> dict[str, str]:
    """Return the digests of files that are not up, by name."""
    url = str(store.place)
    noted = {each.name: each.sha256 for each in _noted(results.published) if each.url == url}
    there = store.sizes(results.rows.name)
    return {
        name: file.sha256
        for name, file in files.items()
        if noted.get(name) != file.sha256 or there.get(name) != file.num_bytes
    }


def _noted(path: Path) -> Iterator[_Published]:
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            yield msgspec.json.decode(line, type=_Published)
        except msgspec.MsgspecError:  # the last line, and its writer was killed: it goes up again
            continue
