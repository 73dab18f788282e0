"""A dry run under way for a client: who leaves ends it. Knows a process and a connection, no route.

begin -> the first report, or what refuses it -> ... -> the last
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.types import Receive

from ..jobs.dry_run_process import DryRunFailed, DryRunProcess
from ..jobs.dry_run_report import DryRunReport
from .errors import Unavailable
from .sse import disconnected


class ValidationRun:
    """Begins at once. What it holds is given back when it ends, whoever still listens."""

    def __init__(
        self, process: DryRunProcess, threads: CapacityLimiter, held: ExitStack, receive: Receive
    ) -> None:
        self._process = process
        self._threads = threads
        self._held = held
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._latest: DryRunReport | None = None
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

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

    async def reports(self) -> AsyncIterator[DryRunReport]:
        """Yield reports as they come, the last one too; raises as `begun` does."""
        while not self._task.done():
            self._news.clear()
            if self._latest is not None:
                yield self._latest
            await self._news.wait()
        yield await self.last()

    def stop(self) -> None:
        """End it; once it has ended, that does no harm."""
        self._process.stop()

    async def _run(self) -> DryRunReport:
        leaving = asyncio.create_task(self._stop_when_left())
        try:
            with self._held:
                return await anyio.to_thread.run_sync(
                    self._process.run, self._hear, limiter=self._threads, abandon_on_cancel=True
                )
        finally:
            self._process.stop()
            leaving.cancel()

    async def _stop_when_left(self) -> None:
        await disconnected(self._receive)
        self._process.stop()

    def _hear(self, report: DryRunReport) -> None:
        """Take a report in the thread that reads them."""
        self._latest = report
        self._loop.call_soon_threadsafe(self._news.set)

    def _ended(self, task: asyncio.Task[DryRunReport]) -> None:
        if not task.cancelled():
            task.exception()  # looked at: of a client who has left, nobody else does
        self._news.set()
