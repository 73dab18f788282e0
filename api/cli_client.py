"""The client that a verb speaks through: where it goes, and with which key. Knows no verb."""

from collections.abc import Callable

from ..jobs.settings import Settings
from .client import Client
from .telling_client import TellingClient


def open_client(
    url: str | None,
    api_key: str | None,
    *,
    timeout_s: float = 60.0,
    max_retries: int = 4,
    tell: Callable[[str], None] | None = None,
) -> Client:
    """Open a client; a flag outranks the environment, and that the file PENSTOCK_CONFIG names.

    `tell` learns when the server is away, and when it is back: for verbs that wait long.

    Raises:
        InvalidSetting: a setting cannot be read.
    """
    settings = Settings.load(url=url, api_key=api_key)
    if tell is None:
        return Client(settings.url, settings.api_key, timeout_s=timeout_s, max_retries=max_retries)
    return TellingClient(
        settings.url, settings.api_key, tell, timeout_s=timeout_s, max_retries=max_retries
    )
