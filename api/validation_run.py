"""A dry run under way for a client: who leaves ends it. Knows a process and a connection, no route.

wait -> its turn -> the first report, or what refuses it -> ... -> the last
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.types import Receive

from ..jobs.dry_run_process import DryRunFailed, DryRunProcess
from ..jobs.dry_run_report import DryRunReport
from .errors import Unavailable
from .sse import disconnected


class ValidationRun:
    """Begins when a thread is free. What it holds is given back at its end, whoever still listens.

    Belongs to one event loop.
    """

    def __init__(
        self, process: DryRunProcess, threads: CapacityLimiter, held: ExitStack, receive: Receive
    ) -> None:
        self._process = process
        self._threads = threads
        self._held = held
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Event()
        self._news = asyncio.Event()
        self._latest: DryRunReport | None = None
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def turn(self, within_s: float) -> bool:
        """Wait so long for its turn; False if it has to wait longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._turn.wait()
        return self._turn.is_set()

    async def begun(self) -> None:
        """Wait for the first report.

        Raises:
            UnreadableInput: the input as a whole cannot be read.
            Unavailable: there will be no report.
        """
        await self._news.wait()
        if self._task.done():
            await self.last()

    async def last(self) -> DryRunReport:
        """Wait for the last report; raises as `begun` does."""
        try:
            return await asyncio.shield(self._task)
        except DryRunFailed as error:
            raise Unavailable(str(error), code="validation_failed") from error
        except asyncio.CancelledError:
            if not self._task.cancelled():  # whoever waits here is
                raise
            message = "the dry run was stopped before it had begun"
            raise Unavailable(message, code="validation_failed") from None

    async def reports(self) -> AsyncIterator[DryRunReport]:
        """Yield reports as they come, the last one too; raises as `begun` does."""
        while not self._task.done():
            self._news.clear()
            if self._latest is not None:
                yield self._latest
            await self._news.wait()
        yield await self.last()

    def stop(self) -> None:
        """End it, or let it never begin; once it has ended, that does no harm."""
        self._process.stop()
        if not self._turn.is_set():
            self._task.cancel()
            self._held.close()

    async def _run(self) -> DryRunReport:
        leaving = asyncio.create_task(self._stop_when_left())
        try:
            return await anyio.to_thread.run_sync(
                self._run_here, limiter=self._threads, abandon_on_cancel=True
            )
        finally:
            self._process.stop()
            leaving.cancel()

    async def _stop_when_left(self) -> None:
        await disconnected(self._receive)
        self.stop()

    def _run_here(self) -> DryRunReport:
        """Run in the thread that it has waited for."""
        self._loop.call_soon_threadsafe(self._turn.set)
        return self._process.run(self._hear)

    def _hear(self, report: DryRunReport) -> None:
        """Take a report in the thread that reads them."""
        self._latest = report
        self._loop.call_soon_threadsafe(self._news.set)

    def _ended(self, task: asyncio.Task[DryRunReport]) -> None:
        if not task.cancelled():
            task.exception()  # looked at: of a client who has left, nobody else does
        self._held.close()
        self._turn.set()
        self._news.set()
