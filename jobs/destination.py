"""Where the rows of a job are to go, found out before any of them is made. Knows no job's state.

Rows land in a directory; if an object store is named, they land below the data directory and are
copied when the job is complete (see `publishing`).
"""

from dataclasses import dataclass

from .durable import storage_errors
from .errors import InvalidJob
from .home_path import NoSuchHome, expanded
from .object_store import ObjectStore, StorePlace, StoreUnavailable, is_store_url
from .results_dir import ResultsDir
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Destination:
    """A directory that receives `<job_id>/rows`, and the store that they are copied to, if any."""

    directory: str
    url: str | None = None


def destination(settings: Settings, out: str | None) -> Destination:
    """Find where rows go that are wanted at `out`, or by default.

    Raises:
        InvalidJob: there is no such place, or nothing can be written there.
        StorageFull: there is no room to find out.
    """
    out = out or settings.results
    if out is None:
        return Destination(str(settings.results_dir))
    if is_store_url(out):
        return Destination(str(settings.results_dir), _checked(settings, out))
    if "://" in out:
        scheme = out.partition("://")[0]
        raise InvalidJob("output", f"rows go to a directory or to s3://bucket/prefix, not {scheme}")
    if "\0" in out:
        raise InvalidJob("output", f"a path holds no NUL character, got {out[:60]!r}")
    try:
        return Destination(str(expanded(out).resolve()))
    except NoSuchHome as error:
        raise InvalidJob("output", f"cannot find {out}: {error}") from error


def create_results(results: ResultsDir) -> None:
    """Make the directories that landing needs.

    Raises:
        InvalidJob: nothing can be written there.
        StorageFull: there is no room.
    """
    try:
        with storage_errors(results.path):
            results.create()
    except OSError as error:
        raise InvalidJob(
            "output", f"cannot write results to {results.path}: {error.strerror or error}"
        ) from error


def _checked(settings: Settings, url: str) -> str:
    """Write something there: a wrong bucket is to be told now, not when all rows are done."""
    try:
        place = StorePlace.parse(url)
        ObjectStore(place, settings.s3_endpoint).check()
    except (ValueError, StoreUnavailable) as error:
        raise InvalidJob("output", str(error)) from error
    return str(place)
