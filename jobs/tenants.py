"""Who shares this installation, and how much of it each may have. Knows no key and no Redis.

    tenants/acme.json    how `acme` differs from a tenant of whom nothing was said

A limit here never turns work away: what is beyond it waits its turn in the queue (see `feeder`).
Only requests that come too fast are refused, and what would need room that waiting does not make.
"""

import logging
import math
import re
import time
from dataclasses import dataclass
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
    """A tenant cannot be called so, have that, or be changed; `param` names the part at fault."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Load:
    """What a tenant takes up at the moment.

    Attributes:
        rows: queued and running.
        tokens: that they are expected to take.
        stored_bytes: on disk.
    """

    rows: int = 0
    tokens: float = 0.0
    stored_bytes: int = 0

    def __add__(self, other: "Load") -> "Load":
        """Add another load."""
        return Load(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.stored_bytes + other.stored_bytes,
        )


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may have; None stands for as much as it likes.

    Attributes:
        weight: its share of the engines against the other tenants'.
        priority_ceiling: the highest priority that its jobs may have.
        max_rows: rows that may be queued or running for it at the same time.
        max_queued_tokens: likewise for the tokens that they are expected to take.
        max_stored_bytes: of its files, its uploads, and the inputs and rows of its jobs and runs;
            answers kept for later runs do not count, they make room by themselves.
        max_streams: how many streams each of its keys may have open at one API process.
        requests_per_minute: how many requests one API process takes from it.
        creates_per_minute: likewise for those that make a job, a batch or a file.
    """

    name: str
    weight: float = 1.0
    priority_ceiling: int | None = None
    max_rows: int | None = None
    max_queued_tokens: int | None = None
    max_stored_bytes: int | None = None
    max_streams: int | None = None
    requests_per_minute: int | None = None
    creates_per_minute: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            InvalidTenant: naming the part at fault.
        """
        if not (math.isfinite(self.weight) and 0 < self.weight <= _MAX_WEIGHT):
            raise InvalidTenant("weight", f"weight must be above 0, got {self.weight:g}")
        for limit in _COUNTS:
            value = getattr(self, limit)
            if value is not None and value < 1:
                raise InvalidTenant(limit, f"{limit} must be at least 1, got {value}")

    @property
    def has_quota(self) -> bool:
        """Whether it matters how much of its work is under way."""
        quotas = (self.max_rows, self.max_queued_tokens, self.max_stored_bytes)
        return any(quota is not None for quota in quotas)

    def capped(self, priority: int) -> int:
        """Return the priority at which a job of this tenant is treated."""
        return priority if self.priority_ceiling is None else min(priority, self.priority_ceiling)

    def shortage(self, load: Load) -> str | None:
        """Say why nothing more of it is begun beside such a load; None while there is room."""
        if self.max_rows is not None and load.rows >= self.max_rows:
            return (
                f"quota_rows: {load.rows} rows of the tenant {self.name} are queued or running, of "
                f"at most {self.max_rows} (max_rows); it goes on when some of them have landed"
            )
        if self.max_queued_tokens is not None and load.tokens >= self.max_queued_tokens:
            return (
                f"quota_tokens: rows of about {load.tokens:.0f} tokens of the tenant {self.name} "
                f"are queued or running, of at most {self.max_queued_tokens} (max_queued_tokens); "
                "it goes on when some of them have landed"
            )
        if self.max_stored_bytes is not None and load.stored_bytes >= self.max_stored_bytes:
            return (
                f"quota_bytes: the tenant {self.name} stores {load.stored_bytes} bytes of at most "
                f"{self.max_stored_bytes} (max_stored_bytes); it goes on when files or jobs that "
                "have ended are deleted"
            )
        return None


class TenantLimits(TypedDict, total=False):
    """Some of what a tenant may have, by the names of `Tenant`."""

    weight: float
    priority_ceiling: int | None
    max_rows: int | None
    max_queued_tokens: int | None
    max_stored_bytes: int | None
    max_streams: int | None
    requests_per_minute: int | None
    creates_per_minute: int | None


_COUNTS = tuple(name for name in TenantLimits.__annotations__ if "max_" in name or "_per_" in name)


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
            InvalidTenant: it may not be called so, or have that; or what it may have until now
                cannot be read, and would be lost.
        """
        check_name(name)
        try:
            known = self._load(name) or Tenant(name=name)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            message = f"cannot read {self._path(name)} ({error}): mend it, or delete it, then again"
            raise InvalidTenant("tenant", message) from error
        tenant = msgspec.structs.replace(known, **limits)
        self.put(tenant)
        return tenant

    def list(self) -> list[Tenant]:
        """Return all tenants of whom something was said, by name."""
        names = sorted(path.stem for path in self._directory.glob("*.json"))
        return [self.get(name) for name in names]

    def _read(self, name: str) -> Tenant | None:
        """Read what was said of a tenant; None if nothing was, or it cannot be read."""
        try:
            return self._load(name) if _NAME.fullmatch(name) else None
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            logger.error("cannot read what the tenant %s may have: %s", name, error)
            return None

    def _load(self, name: str) -> Tenant | None:
        try:
            return msgspec.json.decode(self._path(name).read_bytes(), type=Tenant)
        except FileNotFoundError:
            return None

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
