"""On whose behalf a request is made. Whoever checks keys writes it down; routes read it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Scope as AsgiScope

from ..jobs.api_keys import Scope
from ..jobs.tenants import DEFAULT_TENANT
from .errors import NotAllowed

_SCOPE_KEY = "penstock.principal"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request belongs to.

    Attributes:
        tenant: whose files, batches and jobs it sees.
        scopes: what it may do with them.
        key_id: the key that says so; None for the server's own, and where none is asked for.
    """

    tenant: str = DEFAULT_TENANT
    scopes: frozenset[Scope] = frozenset(Scope)
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether this is allowed; an admin may do all."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, scope: Scope, what: str) -> None:
        """Refuse what is not allowed.

        Raises:
            NotAllowed: naming what was asked for, and the scope it takes.
        """
        if not self.may(scope):
            held = ", ".join(sorted(self.scopes)) or "none"
            raise NotAllowed(f"{what} takes a key with the scope {scope}; this one has: {held}")


ANYBODY = Principal()  # where no key is asked for


def is_known(scope: AsgiScope) -> bool:
    """Tell whether a key said on whose behalf a request is made."""
    return _SCOPE_KEY in scope


def note_principal(scope: AsgiScope, principal: Principal) -> None:
    """Write down on whose behalf a request is made."""
    scope[_SCOPE_KEY] = principal


def principal_of(scope: AsgiScope) -> Principal:
    """Return on whose behalf a request is made."""
    return scope.get(_SCOPE_KEY, ANYBODY)


def _principal(request: Request) -> Principal:
    return principal_of(request.scope)


ThePrincipal = Annotated[Principal, Depends(_principal)]
