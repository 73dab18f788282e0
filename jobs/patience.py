"""Doing a step on Redis however long Redis is away. Knows its errors, not what the step does."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import redis

RETRY_S = 0.5
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Patience:
    """Waits for Redis, and says once that it does.

    Attributes:
        is_over: set when nothing is to be waited for any more.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._is_away = False

    def do(self, step: Callable[[], Result]) -> Result | None:
        """Do a step when Redis lets us; None when we are stopping and it does not."""
        while True:
            try:
                result = step()
            except redis.RedisError as error:
                self.note_away(error)
                if self.is_over:
                    return None
                time.sleep(RETRY_S)
            else:
                self._is_away = False
                return result

    def try_once(self, step: Callable[[], Result]) -> Result | None:
        """Do a step if Redis lets us now; None when it does not."""
        try:
            result = step()
        except redis.RedisError as error:
            self.note_away(error)
            return None
        self._is_away = False
        return result

    def note_away(self, error: redis.RedisError) -> None:
        """Say that Redis does not answer, unless that has been said."""
        if not self._is_away:
            logger.warning("Redis does not answer; rows go on, commits wait: %s", error)
        self._is_away = True
