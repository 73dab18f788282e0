"""What can go wrong for a caller of the client, as one tree. Knows no transport.

PenstockError
├── ServerUnreachable           no answer: refused, timed out, cut off
├── UnexpectedAnswer            an answer that cannot be read: one of both is older than the other
├── InvalidInput                rows, or an id, cannot be sent as they are (also a ValueError)
├── MissingPackage              an optional package is wanted (also an ImportError)
├── StreamFailed                the server broke a stream off and said why
├── JobFailed                   the job as a whole could not run
├── RowFailed                   one row of many has no answer, and an error was asked for
├── JobPaused                   its other rows come when somebody resumes it
├── WaitTimedOut                still running when the time was up (also a TimeoutError)
├── StackFailed                 the server that was to run on this machine does not
└── ApiError                    the server answered, and said no
    ├── BadRequest              400
    ├── Unauthorized            401
    ├── Forbidden               403
    ├── NotFound                404
    ├── Conflict                409
    ├── PayloadTooLarge         413
    ├── TooManyRequests         429
    └── ServerError             5xx
        └── Unavailable         503
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .retry_policy import retry_after_s

_SHORT = 300  # characters of a foreign answer (a proxy's words) that are worth showing


class PenstockError(Exception):
    """Anything the client raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it cross to another process with all that it carries, whatever its class takes."""
        return _without_init, (type(self), self.args), self.__dict__


class ServerUnreachable(PenstockError):
    """No answer came from the server."""


class UnexpectedAnswer(PenstockError):
    """The server's answer lacks what this client looks for: one of both is older than the other."""


class InvalidAddress(PenstockError, ValueError):
    """The server's URL is none; the message says how one looks."""


class InvalidInput(PenstockError, ValueError):
    """Rows, or an id, cannot be sent; the message names what and why."""


class MissingPackage(PenstockError, ImportError):
    """A conversion needs a package that is not installed."""


class StreamFailed(PenstockError):
    """The server broke off a stream after it had begun."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class JobFailed(PenstockError):
    """The job as a whole ended without results (rows that failed alone never cause this)."""

    def __init__(self, message: str, job_id: str, status: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.status = status


class RowFailed(PenstockError):
    """One row of a job has no answer; those beside it have theirs. `code` is the row's error."""

    def __init__(self, message: str, code: str, job_id: str) -> None:
        super().__init__(message)
        self.code = code
        self.job_id = job_id


class JobPaused(PenstockError):
    """More rows are asked for than have landed, of a job that does not go on by itself."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class WaitTimedOut(PenstockError, TimeoutError):
    """The job is still running; waiting again is safe."""


class StackFailed(PenstockError):
    """The stack cannot be started; the message holds the last words of the part that failed."""


class ApiError(PenstockError):
    """The server refused. `request_id` finds the call in the server's log.

    `errors` are all the problems, each with `param` and `message`, where it told more than one.
    `retry_after_s` is how long it asked to be left alone, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        request_id: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.message = message
        self.status_code = status_code
        self.code = code
        self.param = param
        self.kind = kind
        self.request_id = request_id

    def __str__(self) -> str:
        """Give the server's message, and where to find the call in its log."""
        where = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} (HTTP {self.status_code}{where})"

    @staticmethod
    def from_answer(
        status_code: int, headers: Mapping[str, str], body: bytes, *, where: str = "this address"
    ) -> "ApiError":
        """Make the class that fits the status from an error envelope, or from any other body.

        Penstock refuses no client with a page for browsers: of such a page only is told `where`.
        """
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        envelope = _no_penstock(where, kind) if kind == "text/html" else _read_envelope(body)
        fallback = ServerError if status_code >= 500 else ApiError
        return _CLASS_OF.get(status_code, fallback)(
            envelope.get("message") or f"the server answered with status {status_code}",
            status_code=status_code,
            code=envelope.get("code"),
            param=envelope.get("param"),
            kind=envelope.get("type"),
            request_id=headers.get("x-request-id"),
            errors=envelope.get("errors") or (),
            retry_after_s=retry_after_s(headers),
        )


class BadRequest(ApiError):
    """400: something in the request is wrong; `param` names it."""


class Unauthorized(ApiError):
    """401: the API key is missing or wrong."""


class Forbidden(ApiError):
    """403: the API key may not do this."""


class NotFound(ApiError):
    """404: there is no such job, model or path."""


class Conflict(ApiError):
    """409: the job's state does not allow this."""


class PayloadTooLarge(ApiError):
    """413: the request is larger than the server takes."""


class TooManyRequests(ApiError):
    """429: the server asks for a slower pace, and retries did not help."""


class ServerError(ApiError):
    """5xx: the server's own fault."""


class Unavailable(ServerError):
    """503: no worker for the model, or the queue is away; retries did not help."""


_CLASS_OF: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    429: TooManyRequests,
    503: Unavailable,
}


def _without_init(kind: type[PenstockError], args: tuple[Any, ...]) -> PenstockError:
    return kind.__new__(kind, *args)  # the attributes follow


def _no_penstock(where: str, kind: str) -> dict[str, Any]:
    told = f"what does, or a proxy before it, sent a page ({kind})"
    return {"message": f"no Penstock answers at {where}: {told}"}


def _read_envelope(body: bytes) -> dict[str, Any]:
    """Read `{"error": {...}}`; whatever else a proxy may send becomes the message."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = body.decode("utf-8", "replace").strip()[:_SHORT]
    return error if isinstance(error, dict) else {"message": error}
