"""A relay between two parts of the stack that can fall silent, lose answers or hang up.

passing    bytes go both ways
silent     connections stay open, and nothing comes through: a partition
deaf       requests come through, answers wait: the other side has done it, unheard
losing     requests come through; now and then a connection is cut instead of the answer
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, Self

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Relay = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_CHUNK_BYTES = 65_536
_LOOK_S = 0.02
_LOSS = 0.2  # of the answers, while losing; losing all of them would be a partition


class Mood(Enum):
    """What the relay does with what comes."""

    PASSING = "passing"
    SILENT = "silent"
    DEAF = "deaf"
    LOSING = "losing"


class FaultProxy:
    """One relay on an event loop of its own; set `mood` from any thread.

    Attributes:
        mood: what happens to whatever comes from now on.
        num_lost: answers that were lost.
    """

    def __init__(
        self,
        address: str,
        connect: Callable[[], Awaitable[Streams]],
        serve: Callable[[Relay], Coroutine[Any, Any, asyncio.Server]],
    ) -> None:
        self.address = address
        self.mood = Mood.PASSING
        self.num_lost = 0
        self._connect = connect
        self._random = random.Random(address)
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(serve(self._relay), self._loop).result(10)

    @classmethod
    def before_redis(cls, target: Path, listen: Path) -> Self:
        """Stand before a Redis on a Unix socket; `address` is the URL for its clients."""
        return cls(
            f"unix://{listen}?db=0",
            lambda: asyncio.open_unix_connection(str(target)),
            lambda relay: asyncio.start_unix_server(relay, str(listen)),
        )

    @classmethod
    def before_port(cls, target: int, listen: int) -> Self:
        """Stand before a web server of this machine; `address` is the URL for its clients."""
        return cls(
            f"http://127.0.0.1:{listen}",
            lambda: asyncio.open_connection("127.0.0.1", target),
            lambda relay: asyncio.start_server(relay, "127.0.0.1", listen),
        )

    def cut(self) -> None:
        """Hang up on everybody."""
        self._loop.call_soon_threadsafe(self._hang_up)

    def close(self) -> None:
        """Stop relaying."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._connect()
        except OSError:  # as a client without a relay would find
            writer.close()
            return
        both = (writer, far_writer)
        self._writers.update(both)
        try:
            pumps = (
                asyncio.create_task(self._pump(reader, far_writer, is_answer=False)),
                asyncio.create_task(self._pump(far_reader, writer, is_answer=True)),
            )
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._writers.difference_update(both)
            for each in both:
                each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        held = (Mood.SILENT, Mood.DEAF) if is_answer else (Mood.SILENT,)
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                while self.mood in held:
                    await asyncio.sleep(_LOOK_S)
                if is_answer and self.mood is Mood.LOSING and self._random.random() < _LOSS:
                    self.num_lost += 1
                    return
                writer.write(data)
                await writer.drain()

    def _hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _stop(self) -> None:
        self._server.close()
        self._hang_up()
        current = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
