"""The client that a verb speaks through: where it goes, and with which key. Knows no verb."""

from ..jobs.settings import Settings
from .client import Client


def open_client(
    url: str | None, api_key: str | None, *, timeout_s: float = 60.0, max_retries: int = 4
) -> Client:
    """Open a client; a flag outranks the environment, and that the file PENSTOCK_CONFIG names.

    Raises:
        InvalidSetting: a setting cannot be read.
    """
    settings = Settings.load(url=url, api_key=api_key)
    return Client(settings.url, settings.api_key, timeout_s=timeout_s, max_retries=max_retries)
