"""The key under which a submission is made once, however often it is sent. Knows no job."""

from starlette.requests import Request

from .errors import InvalidRequest

_MAX_CHARS = 512


def idempotency_key_of(request: Request, named: str | None) -> str | None:
    """Return the key of the header, or the one `named` in the body.

    Raises:
        InvalidRequest: both are there, and differ; or the header is too long.
    """
    header = request.headers.get("idempotency-key")
    if header and len(header) > _MAX_CHARS:
        raise InvalidRequest(f"idempotency-key may have at most {_MAX_CHARS} characters")
    if header and named and header != named:
        raise InvalidRequest(
            "the header Idempotency-Key and idempotency_key differ", param="idempotency_key"
        )
    return header or named
