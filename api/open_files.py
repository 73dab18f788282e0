"""How the files that a process may have open are shared out among those who connect to it.

Knows the system's limit and what each kind of client takes; sees no client. Where a process has run
out of them it cannot even accept a connection to say so: hence a share is kept back.
"""

import resource
from dataclasses import dataclass
from typing import Self

MAX_FOLLOWERS = 1_000  # of jobs' events at the same time; more are told to come again
_KEPT_BACK = 96  # for the libraries, Redis, uploads, and saying no
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """How many clients there is room for.

    Attributes:
        connections: that may be open at the same time, whoever they are.
        refusals: that may be open beyond those for as long as it takes to say no.
        followers: connections that may follow a job's events: each has one to Redis as well.
    """

    connections: int
    refusals: int
    followers: int

    @classmethod
    def share_out(cls, limit: int) -> Self:
        """Divide what a limit of open files allows."""
        followers = max(_FEWEST, min(MAX_FOLLOWERS, limit // 4))
        return cls(max(_FEWEST, limit - _KEPT_BACK - followers), _KEPT_BACK // 4, followers)

    @classmethod
    def of_process(cls) -> Self:
        """Divide what this process may have open now."""
        return cls.share_out(_soft_limit())


def raise_limit() -> None:
    """Let this process have as many files open as it is allowed to, not just the usual 1,024."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):  # macOS calls it unlimited, and does not take the word
        return


def _soft_limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
