"""A task between Celery and the pool: how Celery calls it back. Knows no engine."""

import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo

from .model import ShardRef


class Handle:
    """One task in flight. Celery's request refers to it weakly; the pool keeps it alive.

    Attributes:
        target, arguments: Celery's trace of the task, and what it is called with.
        options: Celery's callbacks for this task, and its time limits.
        ref: the shard, where the task is one.
    """

    __slots__ = (
        "__weakref__",
        "_on_terminate",
        "accepted_at_s",
        "arguments",
        "options",
        "ref",
        "target",
    )

    def __init__(
        self,
        target: Callable[..., Any],
        arguments: Any,
        options: Any,
        *,
        on_terminate: "Callable[[Handle], None]",
    ) -> None:
        self.target = target
        self.arguments = arguments
        self.options = options
        self._on_terminate = on_terminate
        self.accepted_at_s = time.monotonic()
        self.ref: ShardRef | None = None

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.arguments[1]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.arguments[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The task's arguments, as the message holds them."""
        return self.arguments[2]["kwargs"]

    @property
    def title(self) -> str:
        """What people are shown of it."""
        return self.arguments[2].get("kwargsrepr") or self.name

    def report(self, result: Any) -> None:
        """Tell Celery how the task ended: what its trace returned, or an exception."""
        if isinstance(result, Exception):
            try:
                raise result
            except Exception:  # the one just raised: Celery wants it with its traceback
                self.options["error_callback"](ExceptionInfo())
        else:
            self.options["callback"](result)

    def tell_progress(self, words: str) -> None:
        """Let Flower show how far the task is."""
        request = self.options["callback"].__self__
        request.send_event("task-progress", result=words)

    def terminate(self, signum: int) -> None:
        """Take the task back: it was revoked, or the worker stops."""
        self._on_terminate(self)

    def wait(self, timeout: float | None = None) -> None:
        """Celery asks for this on shutdown; the pool has waited already."""
