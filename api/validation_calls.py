"""What is said about dry runs, and how their lines are read. Does no IO (see `talk`)."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import httpx2

from .client_errors import ApiError, ServerUnreachable
from .job_calls import SubmitOptions, job_body
from .payloads import Remote, Upload
from .retry_policy import RetryPolicy
from .talk import Send, Talk, ask
from .validation_record import JobValidation

OnProgress: TypeAlias = Callable[[int, float | None], None]  # rows so far, share of the input read

_SILENCE_S = 1800.0  # others may be before us in the line
_LINES = "application/x-ndjson"


def open_validation(
    rows: Upload | Remote, options: SubmitOptions, retry: RetryPolicy
) -> Talk[httpx2.Response]:
    """Send the rows and what would be done with them; lines tell how far the dry run is."""
    body = job_body(options)
    body.pop("idempotency_key", None)  # nothing is made
    if isinstance(rows, Remote):
        body["input"] = {"path": rows.url}
    send = Send(
        "POST",
        "/v1/jobs/validate",
        headers={"Accept": _LINES},
        body=body,
        upload=None if isinstance(rows, Remote) else rows,
        read_timeout_s=_SILENCE_S,
        stream=True,
    )
    return (yield from ask(send, retry, lambda response: response))


class ValidationLines:
    """The lines of a dry run, as they come in pieces.

    Attributes:
        found: what the last line tells, once it is there.
    """

    def __init__(self, on_progress: OnProgress) -> None:
        self.found: JobValidation | None = None
        self._on_progress = on_progress
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take a piece.

        Raises:
            ApiError: the server says that it cannot go on.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in filter(None, lines):
            self._read(line)

    def end(self) -> JobValidation:
        """Return what the last line told.

        Raises:
            ServerUnreachable: there was none.
        """
        if self.found is None:
            raise ServerUnreachable("the server broke off before it had looked at all rows")
        return self.found

    def _read(self, line: bytes) -> None:
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            is_ours = said["error"].get("type") == "invalid_request_error"
            raise ApiError.from_answer(400 if is_ours else 503, {}, line)
        if said.get("object") == "job.validation.progress":
            self._on_progress(said.get("rows") or 0, said.get("share_read"))
        else:
            self.found = JobValidation.from_json(said)


def read_validation(response: httpx2.Response, on_progress: OnProgress) -> JobValidation:
    """Read a dry run to its end.

    Raises:
        ApiError, ServerUnreachable: it has none.
    """
    lines = ValidationLines(on_progress)
    try:
        with suppress(httpx2.TransportError):  # what has come may be all
            for data in response.iter_bytes():
                lines.feed(data)
    finally:
        response.close()
    return lines.end()


async def read_validation_async(
    response: httpx2.Response, on_progress: OnProgress
) -> JobValidation:
    """As `read_validation`, without blocking."""
    lines = ValidationLines(on_progress)
    try:
        with suppress(httpx2.TransportError):
            async for data in response.aiter_bytes():
                lines.feed(data)
    finally:
        await response.aclose()
    return lines.end()


@contextmanager
def shown_progress(wanted: bool) -> Iterator[OnProgress]:
    """Show on a terminal how far a dry run is, as long as the block lasts."""
    if not wanted:
        yield lambda rows, share: None
        return
    from .validation_progress import ValidationProgress  # rich is slow to import

    with ValidationProgress() as bar:
        yield bar.show
