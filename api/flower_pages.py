"""Which of Flower's pages are served: those that look. Knows Flower's addresses, no server.

Flower can stop workers and send tasks; a job is steered through `/v1/jobs`, and whoever reads a
dashboard should not be able to do more by it.
"""

from typing import Any

_LOOKING = frozenset(
    {
        "/api/workers",
        "/api/tasks",
        "/api/task/types",
        "/api/task/info/(.*)",
        "/api/queues/length",
    }
)


def looking_only(handlers: list[Any]) -> list[Any]:
    """Keep the pages, and of the calls those that change nothing; new ones stay out."""
    return [each for each in handlers if _is_looking(_address(each))]


def _is_looking(address: str) -> bool:
    return not address.startswith("/api/") or address in _LOOKING


def _address(handler: Any) -> str:
    """Read the address of a handler, which is a tuple or Tornado's own `url`."""
    return handler[0] if isinstance(handler, tuple) else handler.regex.pattern
