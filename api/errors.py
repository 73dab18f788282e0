"""What can go wrong over HTTP, and the one shape in which it is told. Knows no route.

    ApiError
    ├── InvalidRequest 400            a value is wrong, missing or unknown
    │   └── UnsupportedParameter 400  part of OpenAI's API, not (yet) of ours
    ├── InvalidKey 401
    ├── NotAllowed 403                the key is good, but not for this
    │   └── StorageQuotaFull          the tenant stores as much as it may
    ├── ForeignPage 403               a web page of elsewhere, and no key asked for
    ├── NotFound 404
    │   ├── ModelNotFound
    │   └── JobNotFound
    ├── Conflict 409                  it has ended already
    ├── JobGone 410                   the job is known, its directory is not there any more
    ├── BodyTooLarge 413
    ├── UnsupportedMediaType 415
    ├── TooManyRequests 429           the tenant's requests come faster than it may send them
    │   └── Overloaded                too many wait already, whoever they are
    ├── GenerationFailed 500          the engine gave up on this request
    ├── JobDamaged 500                files of this job cannot be read
    ├── Unavailable 503               no worker, no Redis: worth another try
    │   └── ServerStopping            the answer was not ready when this server had to end
    └── OutOfStorage 507

The envelope is OpenAI's, `{"error": {"message", "type", "param", "code"}}`, for every status from
400 on; FastAPI's own 422 never leaves the house. Clients of OpenAI retry 408, 409, 429 and 5xx
unless `x-should-retry: false` stops them, so whatever would fail again says so.
"""

import msgspec
from starlette.responses import Response

MAX_SHOWN_CHARS = 80
_JSON_WORDS = {"None": "null", "True": "true", "False": "false"}


class ApiError(Exception):
    """An answer with a status of 400 or more; subclasses fix the status, the type and the code."""

    status = 500
    kind = "server_error"
    code: str | None = "internal_error"
    is_retryable = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """Tell the client whether, and when, another try makes sense."""
        headers = {} if self.is_retryable else {"x-should-retry": "false"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        return headers

    def envelope(self) -> dict[str, object]:
        """Return the body, which is also what a stream sends when it breaks half-way."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """Return the whole answer."""
        return Response(
            msgspec.json.encode(self.envelope()),
            status_code=self.status,
            headers=self.headers(),
            media_type="application/json",
        )


class InvalidRequest(ApiError):
    """A value is wrong, missing or unknown; `param` names it."""

    status = 400
    kind = "invalid_request_error"
    code = "invalid_value"


class UnsupportedParameter(InvalidRequest):
    """The parameter exists at OpenAI, but ignoring it here would be a lie."""

    code = "unsupported_parameter"


class InvalidKey(ApiError):
    """The API key is missing or wrong."""

    status = 401
    kind = "invalid_request_error"
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        """Name the scheme, as HTTP asks of every 401."""
        return {**super().headers(), "www-authenticate": "Bearer"}


class NotAllowed(ApiError):
    """The API key is good, but does not allow this."""

    status = 403
    kind = "permission_error"
    code = "insufficient_scope"


class StorageQuotaFull(NotAllowed):
    """The tenant stores as much as it may: something must be deleted first."""

    kind = "insufficient_quota"
    code = "storage_quota_exceeded"


class ForeignPage(ApiError):
    """The request comes from a web page of elsewhere, or under a name that is not ours."""

    status = 403
    kind = "invalid_request_error"
    code = "foreign_page"


class NotFound(ApiError):
    """There is nothing at this address."""

    status = 404
    kind = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    """No worker serves this model, and none is set up to."""

    code = "model_not_found"

    def __init__(self, model: str, served: list[str]) -> None:
        super().__init__(
            f"the model {shown(model)} is not served here; served: {', '.join(served) or 'none'}",
            param="model",
        )


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {shown(job_id)}", param="job_id")


class Conflict(ApiError):
    """What is asked for cannot be any more."""

    status = 409
    kind = "invalid_request_error"
    code = "conflict"


class JobGone(ApiError):
    """The job is known, but its directory is not there any more."""

    status = 410
    kind = "invalid_request_error"
    code = "job_gone"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the directory of {job_id} is gone from the server's disk", param="job_id"
        )


class BodyTooLarge(ApiError):
    """The body is longer than this route takes."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(ApiError):
    """The body is in a format that this route does not read."""

    status = 415
    kind = "invalid_request_error"
    code = "unsupported_media_type"


class TooManyRequests(ApiError):
    """A tenant's requests come faster than it may send them; work that is queued is not judged."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"
    is_retryable = True


class Overloaded(TooManyRequests):
    """As many wait for an answer as may; it is known when there will be room."""

    code = "overloaded"

    def __init__(self, num_waiting: int, retry_after_s: int) -> None:
        super().__init__(
            f"{num_waiting} requests wait for an answer already; come again in {retry_after_s} s",
            retry_after_s=retry_after_s,
        )


class GenerationFailed(ApiError):
    """The engine took the request and could not finish it; others are not affected."""

    code = "engine_error"


class JobDamaged(ApiError):
    """Files of this job cannot be read; the others are not affected."""

    code = "job_damaged"


class Unavailable(ApiError):
    """Something that the request needs is away for the moment."""

    status = 503
    kind = "service_unavailable_error"
    code = "service_unavailable"
    is_retryable = True

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 2) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s)


class ServerStopping(Unavailable):
    """The server was told to stop, and the answer was not ready within its grace."""

    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__("the server is stopping; send the request again soon")


class OutOfStorage(ApiError):
    """The disk under the data directory is full."""

    status = 507
    code = "storage_full"


class OtherStatus(ApiError):
    """A refusal of the framework itself (405 and the like) in our envelope."""

    kind = "invalid_request_error"
    code = None

    def __init__(self, status: int, message: str, extra_headers: dict[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.extra_headers = extra_headers

    def headers(self) -> dict[str, str]:
        """Keep what the framework wanted to say, such as `allow` beside a 405."""
        return {**super().headers(), **self.extra_headers}


def shown(value: object) -> str:
    """Quote a value from outside for a message: shortened, control characters escaped."""
    if isinstance(value, str):
        text = ascii(value)
    else:
        text = repr(value)
        text = _JSON_WORDS.get(text, text)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."
