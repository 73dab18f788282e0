"""Looks that many share: whoever follows the same thing is told of one reading of it.

    follower --+
    follower --+-- board -- a look, every so often -- Redis
    follower --+

Knows nothing of what is looked at. A board is there for as long as somebody follows it, and tells
what has changed. Nothing is kept for a slow follower: it misses what lay between, never the newest.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from typing import TypeAlias

from .errors import Unavailable

EVERY_S = 1.5
MAX_BOARDS = 64

Look: TypeAlias = Callable[[], Awaitable[bytes]]


class SharedLooks:
    """Belongs to one event loop."""

    def __init__(self, every_s: float = EVERY_S, max_boards: int = MAX_BOARDS) -> None:
        self._every_s = every_s
        self._max_boards = max_boards
        self._boards: dict[Hashable, _Board] = {}

    @property
    def num_boards(self) -> int:
        """How many different things are looked at."""
        return len(self._boards)

    async def follow(
        self, looks: Mapping[Hashable, Look], is_over: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[bytes, None]:
        """Yield what each look shows, and again when that has changed, until it `is_over`.

        Looks under the same key are the same, whoever brings them. They answer whatever happens.

        Raises:
            Unavailable: there is no room for these.
        """
        self.check_room(looks)
        news = asyncio.Event()
        boards = [self._join(key, look, news) for key, look in looks.items()]
        told: dict[_Board, bytes] = {}
        try:
            while not is_over():
                news.clear()
                for board in boards:
                    if board.shown is not None and told.get(board) is not board.shown:
                        told[board] = board.shown
                        yield board.shown
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), self._every_s)
        finally:
            for key in looks:
                self._leave(key, news)

    def check_room(self, looks: Mapping[Hashable, Look]) -> None:
        """Refuse looks that would be too many, so that whoever asks can be told before it follows.

        Raises:
            Unavailable: there is no room for these.
        """
        if len(self._boards.keys() | looks.keys()) > self._max_boards:
            raise Unavailable(
                f"{self._max_boards} different views are followed already; try again later",
                code="too_many_views",
            )

    async def close(self) -> None:
        """Look no more: whoever still follows is told nothing further."""
        tasks = [board.task for board in self._boards.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _join(self, key: Hashable, look: Look, news: asyncio.Event) -> "_Board":
        board = self._boards.get(key)
        if board is None:
            board = self._boards[key] = _Board(look, self._every_s)
        board.followers.add(news)
        return board

    def _leave(self, key: Hashable, news: asyncio.Event) -> None:
        board = self._boards[key]
        board.followers.discard(news)
        if not board.followers:
            board.task.cancel()
            del self._boards[key]


class _Board:
    """What a look has shown last, and who is to hear when it shows something else."""

    def __init__(self, look: Look, every_s: float) -> None:
        self.shown: bytes | None = None
        self.followers: set[asyncio.Event] = set()
        self.task = asyncio.create_task(self._keep_true(look, every_s))

    async def _keep_true(self, look: Look, every_s: float) -> None:
        while True:
            shown = await look()
            if shown != self.shown:
                self.shown = shown
                for news in self.followers:
                    news.set()
            await asyncio.sleep(every_s)
