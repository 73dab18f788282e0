"""The keys with which clients come in: who made which, what each may do. Knows no HTTP.

    keys/secret               32 random bytes, readable by this user alone
    keys/<digest>.json        one key: its digest, never the key itself

A digest is HMAC-SHA256 under the secret, so that neither a copied file nor the time that a look-up
takes says anything about a key. What was revoked stays on record: an installation that has had
keys goes on asking for one.
"""

import hmac
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

from .durable import create_file, make_directories, replace_file
from .model import new_job_id
from .tenants import check_name

PREFIX = "penstock_"
_MAX_AGE_S = 1.0  # how long what was read is believed: a revoked key dies within a second
_KEYS_KEPT = 10_000
_LONGEST_KEY = 512

logger = logging.getLogger(__name__)


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"  # to look at what is its tenant's
    SUBMIT = "submit"  # to make, change and remove it; to ask models
    ADMIN = "admin"  # to look after the installation, and to act for any tenant


class UnknownKey(LookupError):
    """There is no such key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key {key_id[:40]!r}; `penstock keys list` names all")
        self.key_id = key_id


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key. Times are seconds since 1970."""

    id: str
    tenant: str
    scopes: frozenset[Scope]
    digest: str
    created_at: int
    name: str | None = None
    revoked_at: int | None = None


class ApiKeys:
    """The keys of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._secret: bytes | None = None
        self._read: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()  # by digest
        self._any_at_s = -math.inf
        self._has_any = False

    def create(
        self, tenant: str, scopes: Iterable[Scope], name: str | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key, durably; the key itself is returned here and never again.

        Raises:
            InvalidTenant: a tenant cannot be called so.
        """
        check_name(tenant)
        key = PREFIX + secrets.token_urlsafe(32)
        made = ApiKey(
            id=new_job_id("key"),
            tenant=tenant,
            scopes=frozenset(scopes),
            digest=self._digest(key, self._made_secret()),
            created_at=int(time.time()),
            name=name,
        )
        self._write(made)
        return made, key

    def find(self, key: str) -> ApiKey | None:
        """Return what is kept of a key that is in force; None if it is none of ours."""
        secret = self._known_secret()
        if secret is None or len(key) > _LONGEST_KEY:
            return None
        digest = self._digest(key, secret)
        read_at_s, found = self._read.get(digest, (-math.inf, None))
        if found is None or time.monotonic() - read_at_s > _MAX_AGE_S:
            found = self._look_up(digest)
        if found is None or found.revoked_at is not None:
            return None
        return found if hmac.compare_digest(found.digest, digest) else None

    def list(self) -> list[ApiKey]:
        """Return all keys, oldest first, the revoked ones too."""
        found = (self._load(path) for path in self._paths())
        return sorted((each for each in found if each is not None), key=lambda each: each.id)

    def revoke(self, key_id: str) -> ApiKey:
        """Put a key out of force, durably. Twice does no harm.

        Raises:
            UnknownKey: there is none of this id.
        """
        for key in self.list():
            if key.id == key_id:
                if key.revoked_at is None:
                    key = msgspec.structs.replace(key, revoked_at=int(time.time()))
                    self._write(key)
                return key
        raise UnknownKey(key_id)

    def have_been_made(self) -> bool:
        """Tell whether there was ever a key; as it was at most a second ago."""
        if not self._has_any and time.monotonic() - self._any_at_s > _MAX_AGE_S:
            self._has_any = any(True for _ in self._paths())
            self._any_at_s = time.monotonic()
        return self._has_any

    def _look_up(self, digest: str) -> ApiKey | None:
        found = self._load(self._path(digest))
        self._read.pop(digest, None)
        if found is not None:  # of what is no key nothing is kept: there is no end to it
            self._read[digest] = time.monotonic(), found
            if len(self._read) > _KEYS_KEPT:
                self._read.popitem(last=False)
        return found

    def _write(self, key: ApiKey) -> None:
        replace_file(self._path(key.digest), msgspec.json.encode(key))
        self._read.pop(key.digest, None)

    def _made_secret(self) -> bytes:
        """Return the secret under which keys are digested; the first process makes it."""
        make_directories(self._directory)
        self._directory.chmod(0o700)
        create_file(self._directory / "secret", secrets.token_bytes(32))
        secret = self._known_secret()
        assert secret is not None
        return secret

    def _known_secret(self) -> bytes | None:
        if self._secret is None:
            try:
                self._secret = (self._directory / "secret").read_bytes()
            except FileNotFoundError:
                return None
        return self._secret

    def _paths(self) -> Iterable[Path]:
        """Name the files of all keys. What may not be read is no empty directory: it raises."""
        try:
            return [path for path in self._directory.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return ()

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.json"

    @staticmethod
    def _load(path: Path) -> ApiKey | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=ApiKey)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:  # whoever holds it is not let in
            logger.error("cannot read the key in %s: %s", path.name, error)
            return None

    @staticmethod
    def _digest(key: str, secret: bytes) -> str:
        return hmac.digest(secret, key.encode("utf-8", "surrogatepass"), "sha256").hex()
