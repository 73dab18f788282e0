"""OpenAI's own client, bound to this server. Loads the package only when asked."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import httpx2

from .address import Address
from .client_errors import MissingPackage
from .local_transport import async_transport_for, transport_for

if TYPE_CHECKING:
    import openai

_NO_KEY = "none"  # the package wants one, whether or not the server does


def import_openai(wanted_by: str) -> Any:
    """Load the package.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return import_module("openai")
    except ImportError as error:
        raise MissingPackage(f"{wanted_by} needs the package openai: pip install openai") from error


def bound_client(address: Address, options: dict[str, Any]) -> "openai.OpenAI":
    """Make an `openai.OpenAI` that talks to this server; `options` are its own arguments."""
    package = import_openai("client.openai()")
    transport = transport_for(address)
    if transport is not None:
        options = {"http_client": httpx2.Client(transport=transport, timeout=None)} | options
    return package.OpenAI(**_arguments(address, options))


def bound_async_client(address: Address, options: dict[str, Any]) -> "openai.AsyncOpenAI":
    """Make an `openai.AsyncOpenAI` that talks to this server; see `bound_client`."""
    package = import_openai("client.openai()")
    transport = async_transport_for(address)
    if transport is not None:
        options = {"http_client": httpx2.AsyncClient(transport=transport, timeout=None)} | options
    return package.AsyncOpenAI(**_arguments(address, options))


def _arguments(address: Address, options: dict[str, Any]) -> dict[str, Any]:
    key = address.api_key or _NO_KEY
    return {"base_url": f"{address.http_url}/v1", "api_key": key, **options}
