"""Looks that many share: whoever follows the same thing is told of one reading of it.

    follower --+
    follower --+-- board -- a look, every so often -- Redis
    follower --+

Knows nothing of what is looked at. A board is there for as long as somebody follows it, and tells
what has changed. Nothing is kept for a slow follower: it misses what lay between, never the newest.
There is room for so many boards, and for fewer of one owner: nobody takes the last place alone.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from .errors import TooManyRequests, Unavailable

EVERY_S = 1.5
MAX_BOARDS = 1024
MAX_OWN_BOARDS = 32
_RETRY_AFTER_S = 2

Look: TypeAlias = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, and whose it is; without an owner it is the same for everybody."""

    what: Hashable
    owner: str | None = None


class SharedLooks:
    """Belongs to one event loop."""

    def __init__(
        self,
        every_s: float = EVERY_S,
        max_boards: int = MAX_BOARDS,
        max_own_boards: int = MAX_OWN_BOARDS,
    ) -> None:
        self._every_s = every_s
        self._max_boards = max_boards
        self._max_own_boards = max_own_boards
        self._boards: dict[View, _Board] = {}

    @property
    def num_boards(self) -> int:
        """How many different things are looked at."""
        return len(self._boards)

    async def follow(
        self, looks: Mapping[View, Look], is_over: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[bytes, None]:
        """Yield what each look shows, and again when that has changed, until it `is_over`.

        Looks of the same view are the same, whoever brings them. What one of them raises ends it
        for all who follow, and is raised here; whoever comes later has it taken anew.

        Raises:
            TooManyRequests: their owner has as many as it may.
            Unavailable: there is no room for these.
        """
        self.check_room(looks)
        news = asyncio.Event()
        boards = {view: self._join(view, look, news) for view, look in looks.items()}
        told: dict[_Board, bytes] = {}
        try:
            while not is_over():
                news.clear()
                for board in boards.values():
                    board.check()
                    if board.shown is not None and told.get(board) is not board.shown:
                        told[board] = board.shown
                        yield board.shown
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), self._every_s)
        finally:
            for view, board in boards.items():
                self._leave(view, board, news)

    def check_room(self, looks: Mapping[View, Look]) -> None:
        """Refuse looks that would be too many, so that whoever asks can be told before it follows.

        Raises:
            TooManyRequests: their owner has as many as it may.
            Unavailable: there is no room for these.
        """
        views = self._boards.keys() | looks.keys()
        owned = Counter(view.owner for view in views)
        for owner in {view.owner for view in looks} - {None}:
            if owned[owner] > self._max_own_boards:
                raise TooManyRequests(
                    f"{owner} follows {self._max_own_boards} different lists already, as many as "
                    "one may; close a page, or come again",
                    code="too_many_views",
                    retry_after_s=_RETRY_AFTER_S,
                )
        if len(views) > self._max_boards:
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

    def _join(self, view: View, look: Look, news: asyncio.Event) -> "_Board":
        board = self._boards.get(view)
        if board is None or board.task.done():
            board = self._boards[view] = _Board(look, self._every_s)
        board.followers.add(news)
        return board

    def _leave(self, view: View, board: "_Board", news: asyncio.Event) -> None:
        board.followers.discard(news)
        if not board.followers:
            board.task.cancel()
            if self._boards.get(view) is board:  # and not one that took the place of a broken one
                del self._boards[view]


class _Board:
    """What a look has shown last, and who is to hear when it shows something else."""

    def __init__(self, look: Look, every_s: float) -> None:
        self.shown: bytes | None = None
        self.followers: set[asyncio.Event] = set()
        self.task = asyncio.create_task(self._keep_true(look, every_s))
        self.task.add_done_callback(lambda _: self._tell())

    def check(self) -> None:
        """Raise what the look has raised, if it has."""
        if self.task.done() and not self.task.cancelled():
            self.task.result()

    async def _keep_true(self, look: Look, every_s: float) -> None:
        while True:
            shown = await look()
            if shown != self.shown:
                self.shown = shown
                self._tell()
            await asyncio.sleep(every_s)

    def _tell(self) -> None:
        for news in self.followers:
            news.set()
