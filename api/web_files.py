"""Rows behind a URL of the web, fetched as they are sent on. Knows http, and no job.

The file goes through this process piece by piece; how large it may be and how often it may lead
elsewhere has a limit, and nothing of our own server's key goes there.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from urllib.parse import unquote

import httpx2

from .client_errors import InvalidInput

MAX_BYTES = 64 << 30
_MAX_REDIRECTS = 5
_TIMEOUT_S = httpx2.Timeout(60.0, connect=10.0)
_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".pq"})
_SUFFIX_OF = {
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/x-jsonlines": ".jsonl",
    "text/csv": ".csv",
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
        yield _filename(response), _pieces(response, url)


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
        _check_size(int(declared), url)


def _check_size(num_bytes: int, url: str) -> None:
    if num_bytes > MAX_BYTES:
        raise InvalidInput(
            f"cannot read {_shown(url)}: it has more than {MAX_BYTES:,} bytes; put it where the "
            "server can read it, as s3://…, or submit it in parts"
        )


def _pieces(response: httpx2.Response, url: str) -> Iterator[bytes]:
    num_bytes = 0
    try:
        for piece in response.iter_bytes():
            num_bytes += len(piece)
            _check_size(num_bytes, url)
            if piece:
                yield piece
    except httpx2.HTTPError as error:
        raise InvalidInput(
            f"cannot read {_shown(url)}: it broke off after {num_bytes:,} bytes ({error}); nothing "
            "was submitted, try again"
        ) from error


def _filename(response: httpx2.Response) -> str:
    name = PurePosixPath(unquote(response.url.path)).name or "rows"
    suffix = PurePosixPath(name).suffix.lower()
    return name if suffix in _SUFFIXES else name + _SUFFIX_OF.get(_media_type(response), "")


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _shown(url: str) -> str:
    """Show a URL without what may be secret in it."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return repr(url[:80])
    return f"{parts.scheme}://{parts.netloc.decode('ascii', 'replace')}{parts.path}"
