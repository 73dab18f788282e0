"""How one call is told, without doing any IO.

A call is a generator, a *talk*: it yields `Send`, receives the response (or has a transport error
thrown in) and returns what the caller wanted. `Client` and `AsyncClient` differ only in how they
carry a talk out, so retries, waiting and reading are written once.

    talk  --- Send --->  transport  --- HTTP --->  server
      ^---- Response ------'  (or TransportError)
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import httpx2

from .client_errors import ApiError, PenstockError, ServerUnreachable, UnexpectedAnswer
from .multipart import Multipart
from .payloads import Upload
from .retry_policy import RetryPolicy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """One request, to be sent after a pause. `stream` leaves the body of a success unread."""

    method: str
    path: str
    params: Mapping[str, str | int | float | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None  # sent as JSON
    upload: Upload | None = None  # sent as multipart, beside the body
    form: Mapping[str, str] | None = None  # what stands beside an upload instead of the body
    read_timeout_s: float | None = None  # None: the client's own
    stream: bool = False
    after_s: float = 0.0

    def build(self, http: httpx2.Client | httpx2.AsyncClient) -> httpx2.Request:
        """Make the request; an upload starts from its first byte each time."""
        content: dict[str, Any] = {"json": self.body} if self.body is not None else {}
        headers = dict(self.headers)
        if self.upload is not None:
            parts = Multipart(self.form or {"request": json.dumps(self.body)}, self.upload)
            content = {"content": parts.body_for(http)}
            headers |= parts.headers
        if self.read_timeout_s is not None:
            timeout = http.timeout
            content["timeout"] = httpx2.Timeout(
                connect=timeout.connect,
                read=self.read_timeout_s,
                write=timeout.write,
                pool=timeout.pool,
            )
        return http.build_request(
            self.method, self.path, params=self.params, headers=headers, **content
        )


Talk: TypeAlias = Generator[Send, httpx2.Response, T]


def post(path: str) -> Send:
    """Make a POST that may be repeated without harm."""
    return Send("POST", path, headers={"Idempotency-Key": uuid4().hex})


def ask(send: Send, retry: RetryPolicy, read: Callable[[httpx2.Response], T]) -> Talk[T]:
    """Send until there is an answer worth reading, or no hope of one.

    Raises:
        ServerUnreachable: no answer came, or one that is none of Penstock's.
        UnexpectedAnswer: it lacks something, or holds something else than it should.
        ApiError: the server said no; the class tells which no.
    """
    num_failures = 0
    while True:
        try:
            response = yield send
        except httpx2.TransportError as error:
            num_failures += 1
            delay_s = retry.after_silence(num_failures)
            if delay_s is None:
                reason = str(error) or type(error).__name__
                raise ServerUnreachable(
                    f"no answer from {_where(error)}: {reason}{_what_to_do(error)}"
                ) from error
        else:
            if response.is_success:
                return _read(response, read)
            num_failures += 1
            delay_s = retry.after_status(num_failures, response.status_code, response.headers)
            if delay_s is None:
                raise ApiError.from_answer(
                    response.status_code,
                    response.headers,
                    response.content,
                    where=_where(response),
                )
        send = replace(send, after_s=delay_s)


def read_list(response: httpx2.Response) -> list[dict[str, Any]]:
    """Read the items of a list object."""
    return response.json()["data"]


def _read(response: httpx2.Response, read: Callable[[httpx2.Response], T]) -> T:
    """Read a success, which a proxy or another server may have given."""
    try:
        return read(response)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = response.headers.get("content-type", "no content type")
        raise ServerUnreachable(
            f"{_where(response)} answered with something that is no JSON "
            f"({kind[:80]}); is it Penstock?"
        ) from error
    except PenstockError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(
            f"{_where(response)} answered with something that this client cannot read "
            f"({type(error).__name__}: {str(error)[:80]}); is one of both older than the other?"
        ) from error


def _what_to_do(error: httpx2.TransportError) -> str:
    """Say it where nobody listens: a server that is slow, or breaks off, is one all the same."""
    if not isinstance(error, httpx2.ConnectError):
        return ""
    return "; start a server there with `penstock up`, or name another one in PENSTOCK_URL"


def _where(called: httpx2.TransportError | httpx2.Response) -> str:
    try:
        url = called.request.url
    except RuntimeError:  # the error came before there was a request
        return "the server"
    return f"{url.scheme}://{url.netloc.decode()}"
