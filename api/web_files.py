"""Rows behind a URL of the web, fetched as they are sent on. Knows http, and no job.

The file goes through this process piece by piece; how large it may be and how often it may lead
elsewhere has a limit, and nothing of our own server's key goes there.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from pathlib import PurePosixPath
from urllib.parse import unquote

import httpx2

from .client_errors import InvalidInput
from .foreign_bytes import check_size, whole

_MAX_REDIRECTS = 5
_TIMEOUT_S = httpx2.Timeout(60.0, connect=10.0)
_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet", ".pq"})
_SUFFIX_OF = {
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/x-jsonlines": ".jsonl",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/vnd.apache.parquet": ".parquet",
}


@contextmanager
def open_web_file(url: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Begin to fetch a file; gives a name that tells its format, and its pieces.

    Raises:
        InvalidInput: it cannot be fetched, is too large, or is a page for people.
    """
    with ExitStack() as stack:
        http = stack.enter_context(
            httpx2.Client(follow_redirects=True, max_redirects=_MAX_REDIRECTS, timeout=_TIMEOUT_S)
        )
        try:
            response = stack.enter_context(http.stream("GET", url))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise InvalidInput(f"cannot read {_shown(url)}: {error}") from error
        _check(response, url)
        yield _filename(response), whole(response.iter_bytes(), _shown(url))


def _check(response: httpx2.Response, url: str) -> None:
    if not response.is_success:
        raise InvalidInput(f"cannot read {_shown(url)}: its status is {response.status_code}")
    if _media_type(response) in ("text/html", "application/xhtml+xml"):
        raise InvalidInput(
            f"cannot read {_shown(url)}: it is a page for people, not a file; is there a link to "
            "the raw file?"
        )
    declared = response.headers.get("content-length", "")
    if declared.isdigit():
        check_size(int(declared), _shown(url))


def _filename(response: httpx2.Response) -> str:
    """Choose the first name that tells a format: a store at the end of the way may have none."""
    way = [response.url, *(each.url for each in reversed(response.history))]
    final, *earlier = [PurePosixPath(unquote(url.path)).name for url in way]
    for name in (final, _attached_name(response), *earlier):
        if PurePosixPath(name).suffix.lower() in _SUFFIXES:
            return name
    return (final or "rows") + _SUFFIX_OF.get(_media_type(response), "")


def _attached_name(response: httpx2.Response) -> str:
    """Read the name under which the file is to be saved; empty if there is none."""
    headers = Message()
    headers["content-disposition"] = response.headers.get("content-disposition", "")
    return PurePosixPath(headers.get_filename("")).name


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _shown(url: str) -> str:
    """Show a URL without what may be secret in it."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return repr(url[:80])
    return f"{parts.scheme}://{parts.netloc.decode('ascii', 'replace')}{parts.path}"
