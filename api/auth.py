"""Who may come in: whoever holds a key, once there is one. Knows methods and paths, no route.

    PENSTOCK_API_KEY        may do everything, for the tenant `default`
    penstock keys create    a tenant's key, with scopes (see `jobs/api_keys`)
    neither                 nobody is asked; then the API listens on loopback alone

What is not listed as open needs a key, so that a new route is closed until somebody opens it.
"""

import hmac
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..jobs.api_keys import ApiKeys, Scope as KeyScope
from ..jobs.tenants import InvalidTenant, check_name
from .errors import ApiError, InvalidKey, InvalidRequest
from .principal import Principal, note_principal
from .web_pages import is_page

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # beside the pages, which hold no data
TENANT_HEADER = "x-penstock-tenant"  # for whom an admin acts
_ADMIN_PATHS = ("/v1/keys", "/v1/queues", "/v1/workers", "/metrics", "/docs", "/openapi.json")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class KeyCheck:
    """ASGI middleware that asks every route but the health checks for `Authorization: Bearer`."""

    def __init__(self, app: ASGIApp, api_key: str | None, keys: ApiKeys) -> None:
        self._app = app
        self._pepper = secrets.token_bytes(32)
        self._master = None if api_key is None else self._digest(api_key)
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note on whose behalf the request is made and pass it on, or answer 401 or 403."""
        if scope["type"] == "http" and not is_open(scope["path"]) and self._is_asked_for():
            try:
                principal = self._principal(Headers(scope=scope))
                needed = needed_scope(scope["method"], scope["path"])
                principal.require(needed, f"{scope['method']} at this address")
            except ApiError as refusal:
                await refusal.response()(scope, receive, send)
                return
            note_principal(scope, principal)
        await self._app(scope, receive, send)

    def _is_asked_for(self) -> bool:
        return self._master is not None or self._keys.have_been_made()

    def _principal(self, headers: Headers) -> Principal:
        given = headers.getlist("authorization")
        if not given:
            raise InvalidKey("this server asks for a key: send `Authorization: Bearer <key>`")
        scheme, _, key = given[0].partition(" ")
        principal = self._holder(key.strip())
        if len(given) > 1 or scheme.lower() != "bearer" or principal is None:
            raise InvalidKey(
                # OpenAI's first words, by which other people's clients know the case.
                "Incorrect API key provided: it must be one that `penstock keys create` has made "
                "here and nobody revoked, or the server's PENSTOCK_API_KEY"
            )
        return _acting_for(principal, headers.get(TENANT_HEADER))

    def _holder(self, key: str) -> Principal | None:
        """Say who holds a key. Digests are compared, in constant time; never the keys."""
        if self._master is not None and hmac.compare_digest(self._digest(key), self._master):
            return Principal()
        found = self._keys.find(key)
        return None if found is None else Principal(found.tenant, found.scopes, found.id)

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode("utf-8", "surrogatepass"), "sha256")


def is_open(path: str) -> bool:
    """Tell whether anybody may look at what is at this address."""
    return path in OPEN_PATHS or is_page(path)


def needed_scope(method: str, path: str) -> KeyScope:
    """Say what a key must allow for a request."""
    if any(path == admin or path.startswith(f"{admin}/") for admin in _ADMIN_PATHS):
        return KeyScope.ADMIN
    return KeyScope.READ if method in _READING else KeyScope.SUBMIT


def _acting_for(principal: Principal, tenant: str | None) -> Principal:
    """Let an admin act for another tenant."""
    if tenant is None or tenant == principal.tenant:
        return principal
    principal.require(KeyScope.ADMIN, f"to act for another tenant ({TENANT_HEADER})")
    try:
        check_name(tenant)
    except InvalidTenant as error:
        raise InvalidRequest(str(error), param=TENANT_HEADER) from error
    return Principal(tenant, principal.scopes, principal.key_id)
