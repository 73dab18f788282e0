"""The jobs, or runs, that one command has made: a chain, of which the last is taken up.

Knows keys, and neither a verb nor a server. The first is made under the command's own key, each
that follows under a key that names the one before it: so the same command finds the end of the
chain again, whatever became of those before, and whichever of them were begun anew.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar


class Made(Protocol):
    """A job or a run."""

    @property
    def id(self) -> str:
        """What the server calls it."""
        ...

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        ...


MadeT = TypeVar("MadeT", bound=Made)


def take_up(
    key: str,
    make: Callable[[str], MadeT],
    *,
    is_good: Callable[[MadeT], bool],
    made_by: Callable[[str], str | None],
) -> MadeT:
    """Take up the end of the chain; one that came to nothing is followed by another.

    Args:
        key: the command's own.
        make: makes one under a key, or finds what that has made.
        is_good: tells of one that has ended whether nothing is left to do.
        made_by: names what a key has made, where that can be known.
    """
    while True:
        found = make(key)
        following = _key_after(found.id)
        if (is_good(found) or not found.is_final) and made_by(following) is None:
            return found
        key = following


def key_of_next(key: str, made_by: Callable[[str], str | None]) -> str:
    """Give the key of the one that comes behind the end of the chain."""
    while (found := made_by(key)) is not None:
        key = _key_after(found)
    return key


def _key_after(made_id: str) -> str:
    return f"run-after-{made_id}"
