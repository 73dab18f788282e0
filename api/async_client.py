"""The client for asyncio, the twin of `client`: the same talks, carried out without blocking."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import httpx2

from . import chat_calls, job_calls, tables
from .address import Address
from .async_workflow_client import AsyncWorkflows
from .chat_calls import Messages
from .chat_stream import AsyncChatStream
from .client_events import follow_async
from .connection import AsyncConnection
from .job_calls import JobChanges, SubmitOptions
from .job_facts import JobFacts
from .payloads import JobInput, open_upload
from .records import ChatAnswer, JobEvent, JobRecord, Row
from .retry_policy import RetryPolicy
from .validation_calls import open_validation, read_validation_async, shown_progress
from .validation_record import JobValidation

if TYPE_CHECKING:
    import pyarrow as pa


class AsyncClient(AsyncConnection):
    """A connection to a Penstock server. Close it, or use it in an `async with`.

    Without arguments it goes where PENSTOCK_URL says, else to this machine.

        job = await client.jobs.submit("tickets.jsonl", prompt="Classify: {{ row.text }}")
        await job.wait(progress=True)
        frame = await job.to_pandas()
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        max_retries: int = 4,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.address = Address.resolve(base_url, api_key)
        http = httpx2.AsyncClient(**self.address.http_options(timeout_s), transport=transport)
        super().__init__(http, RetryPolicy(max_retries=max_retries))
        self.jobs = AsyncJobs(self)
        self.models = AsyncModels(self)
        self.workers = AsyncWorkers(self)
        self.workflows = AsyncWorkflows(self)

    @overload
    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = ...,
        stream: Literal[False] = ...,
        **sampling: Any,
    ) -> ChatAnswer: ...
    @overload
    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = ...,
        stream: Literal[True],
        **sampling: Any,
    ) -> AsyncChatStream: ...
    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        stream: bool = False,
        **sampling: Any,
    ) -> ChatAnswer | AsyncChatStream:
        """Ask a model now, ahead of all bulk work. A string is one user message.

        `sampling` takes OpenAI's names, such as `temperature=0, max_tokens=100`.
        """
        if stream:
            talk = chat_calls.open_chat(messages, model, sampling, self.retry)
            return AsyncChatStream(await self.run(talk))
        return await self.run(chat_calls.chat(messages, model, sampling, self.retry))


class AsyncJobs:
    """Bulk jobs."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def submit(self, rows: JobInput, **options: Unpack[SubmitOptions]) -> "AsyncJob":
        """Send rows and what to do with each; returns once the server has them safely on disk.

        Args:
            rows: a JSONL, CSV or Parquet file, here or as `s3://…` (which the server reads), an
                iterable of dicts, or a data frame.
            options: see `SubmitOptions`: `prompt` or `messages`, `model`, `sampling`, `id`, ...

        Raises:
            InvalidInput: the rows cannot be read or sent.
            BadRequest: the server found something wrong; `param` names it.
        """
        with ExitStack() as stack:
            upload = await asyncio.to_thread(stack.enter_context, open_upload(rows))
            talk = job_calls.submit_job(upload, options, self._connection.retry)
            return AsyncJob(self._connection, await self._connection.run(talk))

    async def validate(
        self, rows: JobInput, *, progress: bool = False, **options: Unpack[SubmitOptions]
    ) -> JobValidation:
        """Look at rows as `submit` would take them, and make nothing: bad lines, tokens, time.

        Args:
            rows: as for `submit`.
            progress: show on a terminal how far it is.
            options: as for `submit`.

        Raises:
            InvalidInput: the rows cannot be read or sent.
            BadRequest: no row could be made a request; `param` names why.
        """
        with ExitStack() as stack:
            upload = await asyncio.to_thread(stack.enter_context, open_upload(rows))
            on_progress = stack.enter_context(shown_progress(progress))
            talk = open_validation(upload, options, self._connection.retry)
            return await read_validation_async(await self._connection.run(talk), on_progress)

    async def get(self, job_id: str) -> "AsyncJob":
        """Find a job by its id."""
        talk = job_calls.get_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def list(
        self, *, limit: int = 20, after: str | None = None, status: str | Sequence[str] = ()
    ) -> "list[AsyncJob]":
        """List jobs, newest first; `after` is the last id of the page before.

        With `status`, only jobs in this state, or in one of these.
        """
        talk = job_calls.list_jobs(limit, after, self._connection.retry, status=status)
        return [AsyncJob(self._connection, record) for record in await self._connection.run(talk)]

    async def cancel(self, job_id: str) -> "AsyncJob":
        """Stop a job; what has landed stays."""
        talk = job_calls.cancel_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def pause(self, job_id: str) -> "AsyncJob":
        """Begin nothing more of a job; what runs goes on to its end, and lands."""
        talk = job_calls.pause_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def resume(self, job_id: str) -> "AsyncJob":
        """Let a paused job go on."""
        talk = job_calls.resume_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def delete(self, job_id: str) -> None:
        """Remove a job that has ended, its input and its rows; what it has used stays on record."""
        await self._connection.run(job_calls.delete_job(job_id, self._connection.retry))

    async def update(self, job_id: str, **changes: Unpack[JobChanges]) -> "AsyncJob":
        """Change a job's name, priority, metadata, deadline or rate of errors; it acts at once."""
        talk = job_calls.change_job(job_id, changes, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def retry(self, job_id: str, *, codes: Sequence[str] | None = None) -> "AsyncJob":
        """Run again what failed of a job that has ended; see `AsyncJob.retry`."""
        talk = job_calls.retry_job(job_id, codes, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))


class AsyncModels:
    """The models served now."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def ready(self) -> list[str]:
        """Name the models whose engine works, as it proved lately; `Unavailable` if none does."""
        return await self._connection.run(chat_calls.ready_models(self._connection.retry))

    async def list(self) -> list[dict[str, Any]]:
        """List the models, in OpenAI's shape."""
        return await self._connection.run(chat_calls.list_models(self._connection.retry))


class AsyncWorkers:
    """The workers alive now."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self) -> list[dict[str, Any]]:
        """List the workers with what they do."""
        return await self._connection.run(chat_calls.list_workers(self._connection.retry))


class AsyncJob(JobFacts):
    """A bulk job."""

    def __init__(self, connection: AsyncConnection, record: JobRecord) -> None:
        super().__init__(record)
        self._connection = connection

    async def refresh(self) -> Self:
        """Look at the job again."""
        self.record = await self._connection.run(job_calls.get_job(self.id, self._connection.retry))
        return self

    async def wait(self, *, progress: bool = False, timeout_s: float | None = None) -> Self:
        """Wait until the job has ended. An interruption leaves the job alone.

        Raises:
            WaitTimedOut: it has not ended in time.
            JobFailed: it could not run as a whole.
        """
        if progress:
            from .progress import JobProgress  # rich is slow to import

            with JobProgress() as bar:
                await self._wait(timeout_s, bar.show)
        else:
            await self._wait(timeout_s, lambda record: None)
        self.raise_if_failed()
        return self

    async def results(
        self, *, status: str | None = None, follow: bool = True, page_rows: int = 1000
    ) -> AsyncIterator[Row]:
        """Yield the landed rows in the order of the input, waiting for those that are to come.

        Args:
            status: only `succeeded` or only `failed` rows.
            follow: False ends with what has landed by now.
            page_rows: how many rows one request asks for.

        Raises:
            JobPaused: with `follow`, once all has been given that landed before somebody is wanted
                to resume the job.
        """
        pager = job_calls.ResultsPager(self.id, status=status, follow=follow, page_rows=page_rows)
        while not pager.is_done:
            for row in await self._connection.run(pager.next_page(self._connection.retry)):
                yield row

    async def errors(self) -> list[dict[str, Any]]:
        """List the rejected input lines and the rows that failed."""
        return await self._connection.run(job_calls.job_errors(self.id, self._connection.retry))

    def events(self) -> AsyncIterator[JobEvent]:
        """Yield what happens to the job, to its end; a broken connection goes on where it was."""
        return follow_async(self._connection, partial(job_calls.open_events, self.id))

    async def cancel(self) -> Self:
        """Stop the job; what has landed stays."""
        self.record = await self._connection.run(
            job_calls.cancel_job(self.id, self._connection.retry)
        )
        return self

    async def pause(self) -> Self:
        """Begin nothing more; what runs goes on to its end, and lands."""
        self.record = await self._connection.run(
            job_calls.pause_job(self.id, self._connection.retry)
        )
        return self

    async def resume(self) -> Self:
        """Go on after a pause. Rows that failed before are not held against the job any more."""
        self.record = await self._connection.run(
            job_calls.resume_job(self.id, self._connection.retry)
        )
        return self

    async def update(self, **changes: Unpack[JobChanges]) -> Self:
        """Change name, priority, metadata, deadline or rate of errors; it acts at once."""
        talk = job_calls.change_job(self.id, changes, self._connection.retry)
        self.record = await self._connection.run(talk)
        return self

    async def delete(self) -> None:
        """Remove the job, if it has ended, its input and its rows; see `jobs.delete`."""
        await self._connection.run(job_calls.delete_job(self.id, self._connection.retry))

    async def retry(self, *, codes: Sequence[str] | None = None) -> "AsyncJob":
        """Run again what failed, or was not run, as a job of its own, which is returned.

        When that completes, its rows take the places of those that failed. With `codes`, only rows
        whose error has one of these.
        """
        talk = job_calls.retry_job(self.id, codes, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def to_arrow(self, *, follow: bool = True) -> "pa.Table":
        """Give all rows as an Arrow table: the Parquet itself when it is on this machine.

        Args:
            follow: wait for rows that are to come; False gives what has landed by now.

        Raises:
            JobPaused: rows that are to come are waiting for somebody to resume the job.
        """
        table = await asyncio.to_thread(tables.landed_table, self.record)
        if table is not None:
            return table
        return await tables.table_of_stream(self.results(follow=follow))

    async def to_pandas(self, *, follow: bool = True) -> Any:
        """Give all rows as a pandas DataFrame; see `to_arrow`."""
        return tables.to_pandas(await self.to_arrow(follow=follow))

    async def to_polars(self, *, follow: bool = True) -> Any:
        """Give all rows as a polars DataFrame; see `to_arrow`."""
        return tables.to_polars(await self.to_arrow(follow=follow))

    async def _wait(self, timeout_s: float | None, on_record: job_calls.OnRecord) -> None:
        retry = self._connection.retry
        talk = job_calls.wait_for_job(self.id, retry, timeout_s=timeout_s, on_record=on_record)
        self.record = await self._connection.run(talk)
