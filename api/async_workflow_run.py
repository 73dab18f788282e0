"""A run of a workflow as a program for asyncio holds it. Knows no REST path.

`workflow_run` is the same without asyncio, and written from this: see `tests/api/twins.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import run_calls, tables
from .client_events import follow_async
from .connection import AsyncConnection, async_pages
from .downloads import download_path, open_download
from .records import JobEvent
from .run_calls import OnRun, RunChanges
from .run_facts import RunFacts
from .run_pager import RunErrorPager, RunPager, RunTablePager
from .run_row import RunRow
from .workflow_records import RunRecord

if TYPE_CHECKING:
    import pyarrow as pa


class AsyncWorkflowRun(RunFacts):
    """A run of a workflow."""

    def __init__(self, connection: AsyncConnection, record: RunRecord) -> None:
        super().__init__(record)
        self._connection = connection

    async def refresh(self) -> Self:
        """Look at the run again."""
        self.record = await self._connection.run(run_calls.get_run(self.id, self._connection.retry))
        return self

    async def wait(
        self,
        *,
        progress: bool = False,
        timeout_s: float | None = None,
        through_pauses: bool = False,
        on_look: OnRun = lambda record: None,
    ) -> Self:
        """Wait until the run has ended. An interruption leaves the run alone.

        Args:
            progress: draw how far each step is.
            timeout_s: how long to wait at most.
            through_pauses: wait on while it pauses for somebody to resume it.
            on_look: called with the run each time that it was looked at.

        Raises:
            WaitTimedOut: it has not ended in time.
            JobPaused: it goes no further until somebody resumes it.
            JobFailed: it could not run as a whole.
        """
        with self._looked_at(on_look, progress=progress) as look:
            talk = run_calls.wait_for_run(
                self.id,
                self._connection.retry,
                timeout_s=timeout_s,
                through_pauses=through_pauses,
                on_run=look,
            )
            self.record = await self._connection.run(talk)
        self.raise_if_failed()
        return self

    async def results(
        self, *, step: str | None = None, follow: bool = True, page_rows: int = 1000
    ) -> AsyncIterator[RunRow]:
        """Yield the rows of the output, or of one step, waiting for those that are to come.

        A server that is away for a while is borne.

        Args:
            step: only what this step made.
            follow: False ends with what has landed by now.
            page_rows: how many rows one request asks for.

        Raises:
            JobPaused: with `follow`, once somebody is wanted to resume the run.
        """
        pager = RunPager(self.id, step, follow=follow, page_rows=page_rows)
        async for page in async_pages(self._connection, pager):
            for row in page:
                yield row

    def step_rows(
        self, step: str, *, follow: bool = True, page_rows: int = 1000
    ) -> AsyncIterator[RunRow]:
        """Yield the rows of one step; see `results`."""
        return self.results(step=step, follow=follow, page_rows=page_rows)

    async def row(self, row_id: str) -> list[dict[str, Any]]:
        """Tell the history of a row: each step's requests, answers and value, from the input on."""
        return await self._connection.run(
            run_calls.trace_row(self.id, row_id, self._connection.retry)
        )

    async def errors(
        self, *, step: str | None = None, code: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield what went wrong by now: rejected lines, then rows that failed, step by step.

        Args:
            step: only what failed in this step.
            code: only errors of this code.
        """
        async for page in async_pages(self._connection, RunErrorPager(self.id, step, code)):
            for error in page:
                yield error

    def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the run, to its end; a broken connection goes on where it was."""
        return follow_async(self._connection, partial(run_calls.open_run_events, self.id))

    async def cancel(self) -> Self:
        """Stop the run; what has landed stays."""
        return await self._steer("cancel")

    async def pause(self) -> Self:
        """Begin nothing more; what runs goes on to its end, and is kept."""
        return await self._steer("pause")

    async def resume(self) -> Self:
        """Go on after a pause."""
        return await self._steer("resume")

    async def update(self, **changes: Unpack[RunChanges]) -> Self:
        """Change the name, the priority or the metadata; it acts at once."""
        talk = run_calls.change_run(self.id, changes, self._connection.retry)
        self.record = await self._connection.run(talk)
        return self

    async def delete(self) -> None:
        """Remove the run, if it has ended, its inputs and all its rows."""
        await self._connection.run(run_calls.delete_run(self.id, self._connection.retry))

    async def retry(self) -> "AsyncWorkflowRun":
        """Run again what failed, once the run has ended: a run of its own, which asks only that."""
        talk = run_calls.retry_run(self.id, self._connection.retry)
        return AsyncWorkflowRun(self._connection, await self._connection.run(talk))

    async def to_arrow(
        self,
        *,
        step: str | None = None,
        columns: Sequence[str] | None = None,
        follow: bool = True,
    ) -> "pa.Table":
        """Give all rows as an Arrow table: the Parquet itself when it is on this machine.

        Columns that an input has brought have the types that they came with. Documents are JSON
        text; those of a simple schema are also in `<column>__parsed`, typed.

        Args:
            step: only what this step made.
            columns: only these.
            follow: wait for rows that are to come; False gives what has landed by now.

        Raises:
            JobPaused: rows that are to come are waiting for somebody to resume the run.
        """
        return await self._table(step, columns, follow)

    async def to_pandas(
        self, *, step: str | None = None, columns: Sequence[str] | None = None, follow: bool = True
    ) -> Any:
        """Give all rows as a pandas DataFrame; see `to_arrow`.

        The index of a DataFrame that came in comes back if all of its columns reach these rows.
        """
        return tables.to_pandas(await self._table(step, columns, follow, has_index=True))

    async def to_polars(
        self, *, step: str | None = None, columns: Sequence[str] | None = None, follow: bool = True
    ) -> Any:
        """Give all rows as a polars DataFrame; see `to_arrow`."""
        return tables.to_polars(await self.to_arrow(step=step, columns=columns, follow=follow))

    async def to_datasets(
        self, *, step: str | None = None, columns: Sequence[str] | None = None, follow: bool = True
    ) -> Any:
        """Give all rows as a `datasets.Dataset`; see `to_arrow`."""
        return tables.to_datasets(await self.to_arrow(step=step, columns=columns, follow=follow))

    async def download(
        self,
        path: str | Path,
        *,
        step: str | None = None,
        columns: Sequence[str] | None = None,
        follow: bool = True,
    ) -> Path:
        """Save all rows as one file, page by page; returns where it is.

        Args:
            path: a file `.parquet` or `.jsonl`, or a directory, which gets `<run_id>.parquet`.
            step: only what this step made.
            columns: only these.
            follow: wait for rows that are to come; False gives what has landed by now.
        """
        where = download_path(path, self.id)
        pager = RunTablePager(self.id, step, columns=columns, follow=follow)
        with open_download(where) as download:
            async for page in async_pages(self._connection, pager):
                await asyncio.to_thread(download.write, page)
        return where

    async def _steer(self, verb: str) -> Self:
        talk = run_calls.steer_run(self.id, verb, self._connection.retry)
        self.record = await self._connection.run(talk)
        return self

    async def _table(
        self,
        step: str | None,
        columns: Sequence[str] | None,
        follow: bool,
        *,
        has_index: bool = False,
    ) -> "pa.Table":
        landed = partial(tables.landed_table, has_index=has_index)
        table = await asyncio.to_thread(landed, self.record, columns) if step is None else None
        if table is not None:
            return table
        pager = RunTablePager(self.id, step, columns=columns, follow=follow, has_index=has_index)
        return tables.joined([page async for page in async_pages(self._connection, pager)])
