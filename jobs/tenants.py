"""Who shares this installation, and how much of it each may have. Knows no key and no Redis.

    tenants/acme.json    how `acme` differs from a tenant of whom nothing was said

A limit here never turns work away: what is beyond it waits its turn in the queue (see `feeder`).
Only requests that come too fast are refused.
"""

import logging
import math
import re
import time
from pathlib import Path
from typing import TypedDict

import msgspec

from .durable import make_directories, replace_file

DEFAULT_TENANT = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_WEIGHT = 1e6
_MAX_AGE_S = 1.0  # how long what was read is believed
_NAMES_KEPT = 10_000

logger = logging.getLogger(__name__)


class InvalidTenant(ValueError):
    """A tenant cannot be called so, or have that; `param` names the part at fault."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may have; None stands for as much as it likes.

    Attributes:
        weight: its share of the engines against the other tenants'.
        priority_ceiling: the highest priority that its jobs may have.
        max_rows: rows that may be queued or running for it at the same time.
        max_queued_tokens: likewise for the tokens that they are expected to take.
        requests_per_minute: how many requests one API process takes from it.
    """

    name: str
    weight: float = 1.0
    priority_ceiling: int | None = None
    max_rows: int | None = None
    max_queued_tokens: int | None = None
    requests_per_minute: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            InvalidTenant: naming the part at fault.
        """
        if not (math.isfinite(self.weight) and 0 < self.weight <= _MAX_WEIGHT):
            raise InvalidTenant("weight", f"weight must be above 0, got {self.weight:g}")
        for limit in ("max_rows", "max_queued_tokens", "requests_per_minute"):
            value = getattr(self, limit)
            if value is not None and value < 1:
                raise InvalidTenant(limit, f"{limit} must be at least 1, got {value}")

    @property
    def has_quota(self) -> bool:
        """Whether it matters how much of its work is under way."""
        return self.max_rows is not None or self.max_queued_tokens is not None

    def capped(self, priority: int) -> int:
        """Return the priority at which a job of this tenant is treated."""
        return priority if self.priority_ceiling is None else min(priority, self.priority_ceiling)

    def has_room(self, num_rows: int, num_tokens: float) -> bool:
        """Tell whether more may be begun while so much is under way."""
        return (self.max_rows is None or num_rows < self.max_rows) and (
            self.max_queued_tokens is None or num_tokens < self.max_queued_tokens
        )


class TenantLimits(TypedDict, total=False):
    """Some of what a tenant may have, by the names of `Tenant`."""

    weight: float
    priority_ceiling: int | None
    max_rows: int | None
    max_queued_tokens: int | None
    requests_per_minute: int | None


def check_name(name: str) -> None:
    """Refuse a name that could mean something to a file system or to Redis.

    Raises:
        InvalidTenant: it may not be a tenant's name.
    """
    if not _NAME.fullmatch(name):
        raise InvalidTenant(
            "tenant",
            "a tenant's name must be 1 to 63 of a-z, 0-9, - and _, and begin with a letter or a "
            f"digit, got {name[:80]!r}",
        )


class Tenants:
    """The tenants of an installation, in one directory that all its processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[float, Tenant]] = {}  # name -> when it was read, and what

    def get(self, name: str) -> Tenant:
        """Return what a tenant may have, as it was at most a second ago.

        One of whom nothing was said may have everything. A file that cannot be read changes
        nothing as long as this process remembers what it said.
        """
        now_s = time.monotonic()
        read_at_s, tenant = self._known.get(name, (-math.inf, None))
        if tenant is None or now_s - read_at_s > _MAX_AGE_S:
            tenant = self._read(name) or tenant or Tenant(name=name)
            if len(self._known) >= _NAMES_KEPT:
                self._known.clear()
            self._known[name] = now_s, tenant
        return tenant

    def put(self, tenant: Tenant) -> None:
        """Say what a tenant may have, durably.

        Raises:
            InvalidTenant: it may not be called so.
        """
        check_name(tenant.name)
        make_directories(self._directory)
        replace_file(self._path(tenant.name), msgspec.json.encode(tenant))
        self._known.pop(tenant.name, None)

    def change(self, name: str, limits: TenantLimits) -> Tenant:
        """Say some of what a tenant may have, durably; what is not named stays as it is.

        Raises:
            InvalidTenant: it may not be called so, or have that.
        """
        tenant = msgspec.structs.replace(self._read(name) or Tenant(name=name), **limits)
        self.put(tenant)
        return tenant

    def list(self) -> list[Tenant]:
        """Return all tenants of whom something was said, by name."""
        names = sorted(path.stem for path in self._directory.glob("*.json"))
        return [self.get(name) for name in names]

    def _read(self, name: str) -> Tenant | None:
        if not _NAME.fullmatch(name):
            return None
        try:
            return msgspec.json.decode(self._path(name).read_bytes(), type=Tenant)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            logger.error("cannot read what the tenant %s may have: %s", name, error)
            return None

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
