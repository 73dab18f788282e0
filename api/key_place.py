"""Where keys are made, told to whoever makes one: a key in the wrong directory protects nothing.

Knows the data directory, and asks the server that clients would find; tells that server nothing.
"""

import time
from collections.abc import Iterator

from ..jobs.installation import installation_id
from ..jobs.settings import Settings
from .client import Client
from .client_errors import Forbidden, PenstockError, Unauthorized

_PROBE_TIMEOUT_S = 2.0
_LEARNS_WITHIN_S = 2.5  # a server looks for keys about once a second
_ASK_AGAIN_S = 0.25
_NO_KEY = "none"  # said in so many words: the environment may hold one that is let in


def place_notes(settings: Settings, key: str) -> Iterator[str]:
    """Name the directory that a new key is in, and say loudly where it seems to be the wrong one.

    Told, too, is a server that answers at the usual address and does not know the key: one that
    works on another directory.
    """
    place = settings.data_dir
    yield f"kept in {place}"
    if not installation_id(place):
        yield (
            f"WARNING: no server has worked with {place} yet: the key opens and protects nothing "
            "until one does. Is another directory meant? --data, or PENSTOCK_DATA, names it"
        )
    trouble = _stranger(settings, key)
    if trouble is not None:
        yield (
            f"WARNING: the server at {settings.url} {trouble}: it works on another directory than "
            f"{place}. Make the key with --data naming that one"
        )


def _stranger(settings: Settings, key: str) -> str | None:
    """Say how the server shows that it has not heard of the key; None if it has, or there is none.

    It is asked for some seconds: it may have looked just before the key was made.
    """
    deadline_s = time.monotonic() + _LEARNS_WITHIN_S
    try:
        while True:
            if _lets_in(settings.url, _NO_KEY):
                trouble = "asks for no key"
            elif not _lets_in(settings.url, key):
                trouble = "does not know this key"
            else:
                return None
            if time.monotonic() > deadline_s:
                return trouble
            time.sleep(_ASK_AGAIN_S)
    except PenstockError:  # nobody is there, or is able to say
        return None


def _lets_in(url: str, key: str) -> bool:
    """Ask for jobs; whose scope does not allow that is known all the same."""
    with Client(url, key, timeout_s=_PROBE_TIMEOUT_S, max_retries=0) as client:
        try:
            client.jobs.list(limit=1)
        except Unauthorized:
            return False
        except Forbidden:
            return True
    return True
