"""The client: what a program says to Penstock. `async_client` is its twin for asyncio.

Knows what can be asked for, and where. What is said is written in `job_calls` and `chat_calls`, and
`connection` carries it out with blocking sockets. Loads neither torch nor Redis.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import httpx2

from . import chat_calls, job_calls, tables
from .address import Address
from .chat_calls import Messages
from .chat_stream import ChatStream
from .client_events import follow
from .connection import Connection
from .job_calls import JobChanges, SubmitOptions
from .job_facts import JobFacts
from .payloads import JobInput, open_upload
from .records import ChatAnswer, JobEvent, JobRecord, Row
from .retry_policy import RetryPolicy
from .validation_calls import open_validation, read_validation, shown_progress
from .validation_record import JobValidation
from .workflow_client import Workflows

if TYPE_CHECKING:
    import pyarrow as pa


class Client(Connection):
    """A connection to a Penstock server. Close it, or use it in a `with`.

    Without arguments it goes where PENSTOCK_URL says, else to this machine.

        job = Client().jobs.submit("tickets.jsonl", prompt="Classify: {{ row.text }}")
        job.wait(progress=True)
        frame = job.to_pandas()
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        max_retries: int = 4,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.address = Address.resolve(base_url, api_key)
        http = httpx2.Client(**self.address.http_options(timeout_s), transport=transport)
        super().__init__(http, RetryPolicy(max_retries=max_retries))
        self.jobs = Jobs(self)
        self.models = Models(self)
        self.workers = Workers(self)
        self.workflows = Workflows(self)

    @overload
    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = ...,
        stream: Literal[False] = ...,
        **sampling: Any,
    ) -> ChatAnswer: ...
    @overload
    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = ...,
        stream: Literal[True],
        **sampling: Any,
    ) -> ChatStream: ...
    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        stream: bool = False,
        **sampling: Any,
    ) -> ChatAnswer | ChatStream:
        """Ask a model now, ahead of all bulk work. A string is one user message.

        `sampling` takes OpenAI's names, such as `temperature=0, max_tokens=100`.
        """
        if stream:
            talk = chat_calls.open_chat(messages, model, sampling, self.retry)
            return ChatStream(self.run(talk))
        return self.run(chat_calls.chat(messages, model, sampling, self.retry))


class Jobs:
    """Bulk jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, rows: JobInput, **options: Unpack[SubmitOptions]) -> "Job":
        """Send rows and what to do with each; returns once the server has them safely on disk.

        Args:
            rows: a JSONL, CSV or Parquet file, here or as `s3://…` (which the server reads), an
                iterable of dicts, or a data frame.
            options: see `SubmitOptions`: `prompt` or `messages`, `model`, `sampling`, `id`, ...

        Raises:
            InvalidInput: the rows cannot be read or sent.
            BadRequest: the server found something wrong; `param` names it.
        """
        with open_upload(rows) as upload:
            talk = job_calls.submit_job(upload, options, self._connection.retry)
            return Job(self._connection, self._connection.run(talk))

    def validate(
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
        with open_upload(rows) as upload, shown_progress(progress) as on_progress:
            talk = open_validation(upload, options, self._connection.retry)
            return read_validation(self._connection.run(talk), on_progress)

    def get(self, job_id: str) -> "Job":
        """Find a job by its id."""
        talk = job_calls.get_job(job_id, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))

    def list(
        self, *, limit: int = 20, after: str | None = None, status: str | Sequence[str] = ()
    ) -> "list[Job]":
        """List jobs, newest first; `after` is the last id of the page before.

        With `status`, only jobs in this state, or in one of these.
        """
        talk = job_calls.list_jobs(limit, after, self._connection.retry, status=status)
        return [Job(self._connection, record) for record in self._connection.run(talk)]

    def cancel(self, job_id: str) -> "Job":
        """Stop a job; what has landed stays."""
        talk = job_calls.cancel_job(job_id, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))

    def pause(self, job_id: str) -> "Job":
        """Begin nothing more of a job; what runs goes on to its end, and lands."""
        talk = job_calls.pause_job(job_id, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))

    def resume(self, job_id: str) -> "Job":
        """Let a paused job go on."""
        talk = job_calls.resume_job(job_id, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended, its input and its rows; what it has used stays on record."""
        self._connection.run(job_calls.delete_job(job_id, self._connection.retry))

    def update(self, job_id: str, **changes: Unpack[JobChanges]) -> "Job":
        """Change a job's name, priority, metadata, deadline or rate of errors; it acts at once."""
        talk = job_calls.change_job(job_id, changes, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))

    def retry(self, job_id: str, *, codes: Sequence[str] | None = None) -> "Job":
        """Run again what failed of a job that has ended; see `Job.retry`."""
        talk = job_calls.retry_job(job_id, codes, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))


class Models:
    """The models served now."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ready(self) -> list[str]:
        """Name the models whose engine works, as it proved lately; `Unavailable` if none does."""
        return self._connection.run(chat_calls.ready_models(self._connection.retry))

    def list(self) -> list[dict[str, Any]]:
        """List the models, in OpenAI's shape."""
        return self._connection.run(chat_calls.list_models(self._connection.retry))


class Workers:
    """The workers alive now."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> list[dict[str, Any]]:
        """List the workers with what they do."""
        return self._connection.run(chat_calls.list_workers(self._connection.retry))


class Job(JobFacts):
    """A bulk job."""

    def __init__(self, connection: Connection, record: JobRecord) -> None:
        super().__init__(record)
        self._connection = connection

    def refresh(self) -> Self:
        """Look at the job again."""
        self.record = self._connection.run(job_calls.get_job(self.id, self._connection.retry))
        return self

    def wait(self, *, progress: bool = False, timeout_s: float | None = None) -> Self:
        """Wait until the job has ended. An interruption leaves the job alone.

        Raises:
            WaitTimedOut: it has not ended in time.
            JobFailed: it could not run as a whole.
        """
        if progress:
            from .progress import JobProgress  # rich is slow to import

            with JobProgress() as bar:
                self._wait(timeout_s, bar.show)
        else:
            self._wait(timeout_s, lambda record: None)
        self.raise_if_failed()
        return self

    def results(
        self, *, status: str | None = None, follow: bool = True, page_rows: int = 1000
    ) -> Iterator[Row]:
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
            yield from self._connection.run(pager.next_page(self._connection.retry))

    def errors(self) -> list[dict[str, Any]]:
        """List the rejected input lines and the rows that failed."""
        return self._connection.run(job_calls.job_errors(self.id, self._connection.retry))

    def events(self) -> Iterator[JobEvent]:
        """Yield what happens to the job, to its end; a broken connection goes on where it was."""
        return follow(self._connection, partial(job_calls.open_events, self.id))

    def cancel(self) -> Self:
        """Stop the job; what has landed stays."""
        self.record = self._connection.run(job_calls.cancel_job(self.id, self._connection.retry))
        return self

    def pause(self) -> Self:
        """Begin nothing more; what runs goes on to its end, and lands."""
        self.record = self._connection.run(job_calls.pause_job(self.id, self._connection.retry))
        return self

    def resume(self) -> Self:
        """Go on after a pause. Rows that failed before are not held against the job any more."""
        self.record = self._connection.run(job_calls.resume_job(self.id, self._connection.retry))
        return self

    def update(self, **changes: Unpack[JobChanges]) -> Self:
        """Change name, priority, metadata, deadline or rate of errors; it acts at once."""
        self.record = self._connection.run(
            job_calls.change_job(self.id, changes, self._connection.retry)
        )
        return self

    def delete(self) -> None:
        """Remove the job, if it has ended, its input and its rows; see `jobs.delete`."""
        self._connection.run(job_calls.delete_job(self.id, self._connection.retry))

    def retry(self, *, codes: Sequence[str] | None = None) -> "Job":
        """Run again what failed, or was not run, as a job of its own, which is returned.

        When that completes, its rows take the places of those that failed. With `codes`, only rows
        whose error has one of these.
        """
        talk = job_calls.retry_job(self.id, codes, self._connection.retry)
        return Job(self._connection, self._connection.run(talk))

    def to_arrow(self, *, follow: bool = True) -> "pa.Table":
        """Give all rows as an Arrow table: the Parquet itself when it is on this machine.

        Args:
            follow: wait for rows that are to come; False gives what has landed by now.

        Raises:
            JobPaused: rows that are to come are waiting for somebody to resume the job.
        """
        table = tables.landed_table(self.record)
        return tables.table_of(self.results(follow=follow)) if table is None else table

    def to_pandas(self, *, follow: bool = True) -> Any:
        """Give all rows as a pandas DataFrame; see `to_arrow`."""
        return tables.to_pandas(self.to_arrow(follow=follow))

    def to_polars(self, *, follow: bool = True) -> Any:
        """Give all rows as a polars DataFrame; see `to_arrow`."""
        return tables.to_polars(self.to_arrow(follow=follow))

    def _wait(self, timeout_s: float | None, on_record: job_calls.OnRecord) -> None:
        retry = self._connection.retry
        talk = job_calls.wait_for_job(self.id, retry, timeout_s=timeout_s, on_record=on_record)
        self.record = self._connection.run(talk)
