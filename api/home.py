"""The disk that the queue works on, as seen from here. Knows the keeper, who looks."""

from .errors import Unavailable
from .services import Services


def require_home(services: Services) -> None:
    """Refuse to take in or remove anything on a disk that is not the queue's.

    Raises:
        Unavailable: no worker would find it there.
    """
    if services.keeper.is_elsewhere:
        message = "this API has another data directory than the queue; nothing was changed"
        raise Unavailable(message, code="storage_unavailable")
