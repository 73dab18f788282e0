"""The client for asyncio: what a program says to Penstock.

Knows what can be asked for, and where. What is said is written in `job_calls` and `chat_calls`, and
a connection carries it out. Loads neither torch nor Redis.

`client` is the same without asyncio, and written from this: see `tests/api/twins.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import httpx2

from . import chat_calls, job_calls
from .address import Address
from .async_batcher import AsyncBatcher
from .async_chat_stream import AsyncChatStream
from .async_job import AsyncJob
from .async_workflow_client import AsyncWorkflows
from .batch_options import BatchOptions
from .batch_queue import BatchLimits
from .chat_calls import Messages
from .client_facts import ClientFacts
from .connection import AsyncConnection
from .job_calls import JobChanges, SubmitOptions
from .local_transport import async_transport_for
from .open_inputs import async_open_upload
from .openai_client import bound_async_client
from .payloads import AsyncJobInput
from .records import ChatAnswer
from .retry_policy import RetryPolicy
from .validation_calls import open_validation, read_validation_async, shown_progress
from .validation_record import JobValidation

if TYPE_CHECKING:
    import openai


class AsyncClient(ClientFacts, AsyncConnection):
    """A connection to a Penstock server. Close it, or use it in an `async with`.

    Without arguments it goes where PENSTOCK_URL says, else to this machine. With `local://` it
    needs no server: the first call finds or starts a whole stack over the directory `data`, which
    serves `model` and ends when its last client has been closed.

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
        model: str | None = None,
        data: str | Path | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.address = Address.resolve(base_url, api_key, model=model, data=data)
        transport = transport or async_transport_for(self.address)
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

    def batcher(
        self,
        *,
        max_rows: int = 1000,
        max_wait_s: float = 1.0,
        max_jobs: int = 8,
        **options: Unpack[SubmitOptions],
    ) -> AsyncBatcher:
        """Gather requests of existing code into bulk jobs; see `AsyncBatcher`.

        Args:
            max_rows: how many requests become one job at most.
            max_wait_s: how long the first of them waits for company.
            max_jobs: how many jobs are open at a time; further requests wait.
            options: what is said of each job, such as `model`, `sampling`, `priority`; with
                `prompt` or `messages`, what is asked are rows for that template.
        """
        limits = BatchLimits(max_rows, max_wait_s, max_jobs)
        return AsyncBatcher(self, BatchOptions(options), limits)

    def openai(self, **options: Any) -> "openai.AsyncOpenAI":
        """Give OpenAI's own client, bound to this server; `options` are its own arguments.

        Raises:
            MissingPackage: `openai` is not installed.
        """
        return bound_async_client(self.address, options)


class AsyncJobs:
    """Bulk jobs."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def submit(self, rows: AsyncJobInput, **options: Unpack[SubmitOptions]) -> AsyncJob:
        """Send rows and what to do with each; returns once the server has them safely on disk.

        Args:
            rows: a file of JSONL, CSV, TSV, Parquet or a JSON array: a path, a URL,
                `hf://datasets/…`, or `s3://…`, which the server reads. Or a table: of pandas,
                polars, pyarrow, DuckDB or `datasets`. Or an iterable of dicts, as a generator: it
                is sent as it is read.
                It may be an asynchronous one.
            options: see `SubmitOptions`: `prompt` or `messages`, `model`, `sampling`, `id`, ...

        Raises:
            InvalidInput: the rows cannot be read or sent; the message names row and column.
            MissingPackage: rows of this kind need a package that is not installed.
            BadRequest: the server found something wrong; `param` names it.
        """
        async with async_open_upload(rows) as upload:
            talk = job_calls.submit_job(upload, options, self._connection.retry)
            record = await self._connection.run(talk)
            return AsyncJob(self._connection, record, options.get("schema"))

    async def validate(
        self, rows: AsyncJobInput, *, progress: bool = False, **options: Unpack[SubmitOptions]
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
        with shown_progress(progress) as on_progress:
            async with async_open_upload(rows) as upload:
                talk = open_validation(upload, options, self._connection.retry)
                return await read_validation_async(await self._connection.run(talk), on_progress)

    async def get(self, job_id: str, *, schema: Any = None) -> AsyncJob:
        """Find a job by its id. With a pydantic model, `row.parsed` is an instance of it."""
        talk = job_calls.get_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk), schema)

    async def list(
        self, *, limit: int = 20, after: str | None = None, status: str | Sequence[str] = ()
    ) -> "list[AsyncJob]":
        """List jobs, newest first; `after` is the last id of the page before.

        With `status`, only jobs in this state, or in one of these.
        """
        talk = job_calls.list_jobs(limit, after, self._connection.retry, status=status)
        return [AsyncJob(self._connection, record) for record in await self._connection.run(talk)]

    async def cancel(self, job_id: str) -> AsyncJob:
        """Stop a job; what has landed stays."""
        talk = job_calls.cancel_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def pause(self, job_id: str) -> AsyncJob:
        """Begin nothing more of a job; what runs goes on to its end, and lands."""
        talk = job_calls.pause_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def resume(self, job_id: str) -> AsyncJob:
        """Let a paused job go on."""
        talk = job_calls.resume_job(job_id, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def delete(self, job_id: str) -> None:
        """Remove a job that has ended, its input and its rows; what it has used stays on record."""
        await self._connection.run(job_calls.delete_job(job_id, self._connection.retry))

    async def update(self, job_id: str, **changes: Unpack[JobChanges]) -> AsyncJob:
        """Change a job's name, priority, metadata, deadline or rate of errors; it acts at once."""
        talk = job_calls.change_job(job_id, changes, self._connection.retry)
        return AsyncJob(self._connection, await self._connection.run(talk))

    async def retry(self, job_id: str, *, codes: Sequence[str] | None = None) -> AsyncJob:
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
