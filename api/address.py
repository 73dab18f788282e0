"""Where the server is, and how to introduce oneself. Knows the environment, no transport."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from ..jobs.settings import DEFAULT_URL
from .client_errors import InvalidAddress, PenstockError
from .local_place import SCHEME, LocalPlace

_ANY_URL = "http://local"  # whose transport knows the way
_CONNECT_S = 5.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Address:
    """A server and the key it asks for, if any; `local` is set where it is to be our own stack."""

    base_url: str
    api_key: str | None
    local: LocalPlace | None = None

    @classmethod
    def resolve(
        cls,
        base_url: str | None,
        api_key: str | None,
        environ: Mapping[str, str] | None = None,
        *,
        model: str | None = None,
        data: str | Path | None = None,
    ) -> Self:
        """Take what is given, else PENSTOCK_URL and PENSTOCK_API_KEY, else this machine.

        `model` and `data` are what `local://` serves, and where.

        Raises:
            InvalidAddress: the URL is not one.
            PenstockError: the key cannot be one.
        """
        environ = os.environ if environ is None else environ
        url = base_url or environ.get("PENSTOCK_URL") or DEFAULT_URL
        if url.startswith(f"{SCHEME}://"):
            local = LocalPlace.read(url, data=data, model=model)
            return cls(f"{SCHEME}://?data={local.data}", None, local)
        if model is not None or data is not None:
            raise PenstockError(
                f"model and data are for local:// and say what it serves, and where; {url} serves "
                "what it serves"
            )
        if not _is_url(url):
            raise InvalidAddress(f"the server's URL must look like http://host:8100, got {url!r}")
        key = api_key or environ.get("PENSTOCK_API_KEY") or None
        url = url.rstrip("/").removesuffix("/v1").rstrip("/")  # as OpenAI's clients are told it
        return cls(url, None if key is None else in_header("the API key", key))

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine."""
        return self.local is not None or urlsplit(self.base_url).hostname in _LOOPBACK

    @property
    def shown(self) -> str:
        """The URL for people: without a password that may be in it."""
        if self.local is not None:
            return self.base_url
        parts = urlsplit(self.base_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def http_url(self) -> str:
        """The URL for a client of HTTP."""
        return self.base_url if self.local is None else _ANY_URL

    def http_options(self, timeout_s: float | None) -> dict[str, Any]:
        """Give what `httpx2.Client` and `httpx2.AsyncClient` both want to know.

        Raises:
            ValueError: no answer could come in so short a time.
        """
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
        return {
            "base_url": self.http_url,
            "headers": {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {},
            "timeout": httpx2.Timeout(timeout_s, connect=_CONNECT_S),
            "trust_env": not self.is_loopback,  # a proxy cannot reach our own loopback
        }


def in_header(name: str, value: str) -> str:
    """Return a text that a header can carry; its value, which may be a secret, is not told.

    Raises:
        PenstockError: none can.
    """
    if not (value.isascii() and value.isprintable()):
        raise PenstockError(
            f"{name} may hold letters, digits and signs of ASCII only, no line break either"
        )
    return value


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
