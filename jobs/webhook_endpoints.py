"""Where clients want to be told of events: URLs, and the secrets with which we sign. Knows no HTTP.

webhooks/endpoints/wh_01K3….json    readable by this user alone
"""

import base64
import logging
import re
import secrets
import time
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec

from .durable import make_directories, replace_file
from .model import new_job_id

EventType: TypeAlias = Literal[
    "batch.completed", "batch.failed", "batch.expired", "batch.cancelled"
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
MAX_ENDPOINTS = 100  # of one tenant
logger = logging.getLogger(__name__)

_ID = re.compile(r"wh_[0-9A-HJKMNP-TV-Z]{26}")


class UnknownEndpoint(LookupError):
    """There is no such endpoint, or it is another tenant's."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"there is no webhook endpoint {endpoint_id[:40]!r}")
        self.endpoint_id = endpoint_id


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A URL that is told of events. Times are seconds since 1970.

    While `old_secret_until` has not come, events are signed with the secret of before as well.
    """

    id: str
    name: str
    url: str
    event_types: list[str]
    secret: str
    created_at: int
    updated_at: int
    tenant: str = "default"
    old_secret: str | None = None
    old_secret_until: int = 0

    def secrets_in_force(self) -> list[str]:
        """Return those with which an event is signed now."""
        if self.old_secret is None or time.time() >= self.old_secret_until:
            return [self.secret]
        return [self.secret, self.old_secret]

    @property
    def secret_hint(self) -> str:
        """What may be shown of the secret."""
        return f"{self.secret[:6]}…{self.secret[-4:]}"


def new_secret() -> str:
    """Make a secret, as the Standard Webhooks write it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


class WebhookEndpoints:
    """The endpoints of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(
        self, *, name: str, url: str, event_types: list[str], tenant: str = "default"
    ) -> Endpoint:
        """Make an endpoint, durably."""
        now = int(time.time())
        endpoint = Endpoint(
            id=new_job_id("wh"),
            name=name,
            url=url,
            event_types=event_types,
            secret=new_secret(),
            created_at=now,
            updated_at=now,
            tenant=tenant,
        )
        self.put(endpoint)
        return endpoint

    def put(self, endpoint: Endpoint) -> None:
        """Write an endpoint, durably; it replaces the one of its id."""
        make_directories(self._directory)
        self._directory.chmod(0o700)
        replace_file(self._path(endpoint.id), msgspec.json.encode(endpoint))

    def get(self, endpoint_id: str, tenant: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            UnknownEndpoint: there is none of this id, or it is another tenant's.
        """
        endpoint = self.find(endpoint_id)
        if endpoint is None or endpoint.tenant != tenant:
            raise UnknownEndpoint(endpoint_id)
        return endpoint

    def find(self, endpoint_id: str) -> Endpoint | None:
        """Return an endpoint, whosesoever it is; None if there is none."""
        if not _ID.fullmatch(endpoint_id):
            return None
        try:
            return msgspec.json.decode(self._path(endpoint_id).read_bytes(), type=Endpoint)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.error("%s cannot be read and is passed over: %s", endpoint_id, error)
            return None

    def list(self, tenant: str) -> "list[Endpoint]":
        """Return a tenant's endpoints, newest first."""
        names = sorted((path.stem for path in self._directory.glob("wh_*.json")), reverse=True)
        found = (self.find(name) for name in names)
        return [each for each in found if each is not None and each.tenant == tenant]

    def delete(self, endpoint_id: str, tenant: str) -> None:
        """Remove an endpoint; what was not delivered yet is not delivered any more.

        Raises:
            UnknownEndpoint: see `get`.
        """
        self._path(self.get(endpoint_id, tenant).id).unlink(missing_ok=True)

    def _path(self, endpoint_id: str) -> Path:
        return self._directory / f"{endpoint_id}.json"
