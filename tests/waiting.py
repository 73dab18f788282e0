"""Waiting for what comes to pass by itself, no longer than patience lasts."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 60.0

Result = TypeVar("Result")


def wait_for(
    probe: Callable[[], Result | None], what: str = "it", patience_s: float = PATIENCE_S
) -> Result:
    """Ask again and again until there is an answer that counts as true."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        if result := probe():
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s:g} s in vain for {what}")
