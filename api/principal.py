"""On whose behalf a request is made. Whoever checks keys writes it down; routes read it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

_SCOPE_KEY = "penstock.principal"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request belongs to.

    Attributes:
        tenant: whose files, batches and jobs it sees.
    """

    tenant: str = "default"


ANYBODY = Principal()


def _principal(request: Request) -> Principal:
    return request.scope.get(_SCOPE_KEY, ANYBODY)


ThePrincipal = Annotated[Principal, Depends(_principal)]
