"""A bulk job as a program holds it. Knows no REST path.

Written from `async_job`: see `tests/api/twins.py`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import job_calls, tables
from .client_events import follow
from .connection import Connection, pages
from .downloads import download_path, open_download
from .job_calls import JobChanges, OnRecord, model_of
from .job_errors import JobErrorPager
from .job_facts import JobFacts
from .records import JobEvent, JobRecord, Row
from .results_pager import ResultsPager, TablePager

if TYPE_CHECKING:
    import pyarrow as pa


class Job(JobFacts):
    """A bulk job."""

    def __init__(self, connection: Connection, record: JobRecord, schema: Any = None) -> None:
        super().__init__(record)
        self._connection = connection
        self._model = model_of(schema)

    def refresh(self) -> Self:
        """Look at the job again."""
        self.record = self._connection.run(job_calls.get_job(self.id, self._connection.retry))
        return self

    def wait(
        self,
        *,
        progress: bool = False,
        timeout_s: float | None = None,
        through_pauses: bool = False,
        on_look: OnRecord = lambda record: None,
    ) -> Self:
        """Wait until the job has ended. An interruption leaves the job alone.

        Args:
            progress: draw how far it is.
            timeout_s: how long to wait at most.
            through_pauses: wait on while it pauses for somebody to resume it.
            on_look: called with the job's record each time that it was looked at.

        Raises:
            WaitTimedOut: it has not ended in time.
            JobPaused: it goes no further until somebody resumes it.
            JobFailed: it could not run as a whole.
        """
        with self._looked_at(on_look, progress=progress) as look:
            talk = job_calls.wait_for_job(
                self.id,
                self._connection.retry,
                timeout_s=timeout_s,
                through_pauses=through_pauses,
                on_record=look,
            )
            self.record = self._connection.run(talk)
        self.raise_if_failed()
        return self

    def results(
        self,
        *,
        status: str | None = None,
        follow: bool = True,
        page_rows: int = 1000,
        parse_as: Any = None,
        raise_on_error: bool = False,
    ) -> Iterator[Row]:
        """Yield the landed rows in the order of the input, waiting for those that are to come.

        With `n` samples, each has a row of its own. A server that is away for a while is borne.

        Args:
            status: only `succeeded` or only `failed` rows.
            follow: False ends with what has landed by now.
            page_rows: how many rows one request asks for.
            parse_as: a pydantic model of which `row.parsed` is an instance; unless told, the one
                that the job was submitted with here.
            raise_on_error: end with `RowFailed` at the first row that failed.

        Raises:
            JobPaused: with `follow`, once all has been given that landed before somebody is wanted
                to resume the job.
        """
        pager = ResultsPager(
            self.id,
            status=status,
            follow=follow,
            page_rows=page_rows,
            model=model_of(parse_as) or self._model,
        )
        for page in pages(self._connection, pager):
            for row in page:
                if raise_on_error:
                    row.raise_if_failed()
                yield row

    def errors(self, *, limit: int | None = None, code: str | None = None) -> list[dict[str, Any]]:
        """List the rejected input lines (the first ten thousand) and the rows that failed.

        Where they may be millions, `iter_errors` holds fewer of them at once.

        Args:
            limit: how many of either, at most; all unless told.
            code: only errors of this code; `rejected_line` is that of lines.
        """
        return list(self.iter_errors(limit=limit, code=code))

    def iter_errors(
        self, *, limit: int | None = None, code: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield what `errors` lists, as it is fetched page by page."""
        for page in pages(self._connection, JobErrorPager(self.id, limit, code)):
            yield from page

    def events(self) -> Iterator[JobEvent]:
        """Yield what happens to the job, to its end; a broken connection goes on where it was."""
        return follow(self._connection, partial(job_calls.open_events, self.id))

    def cancel(self) -> Self:
        """Stop the job; what has landed stays."""
        talk = job_calls.cancel_job(self.id, self._connection.retry)
        self.record = self._connection.run(talk)
        return self

    def pause(self) -> Self:
        """Begin nothing more; what runs goes on to its end, and lands."""
        talk = job_calls.pause_job(self.id, self._connection.retry)
        self.record = self._connection.run(talk)
        return self

    def resume(self) -> Self:
        """Go on after a pause. Rows that failed before are not held against the job any more."""
        talk = job_calls.resume_job(self.id, self._connection.retry)
        self.record = self._connection.run(talk)
        return self

    def update(self, **changes: Unpack[JobChanges]) -> Self:
        """Change name, priority, metadata, deadline or rate of errors; it acts at once."""
        talk = job_calls.change_job(self.id, changes, self._connection.retry)
        self.record = self._connection.run(talk)
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
        return Job(self._connection, self._connection.run(talk), self._model)

    def to_arrow(self, *, columns: Sequence[str] | None = None, follow: bool = True) -> "pa.Table":
        """Give all rows, in the order of the input, as an Arrow table.

        The columns of the input stand beside ours, with the types that they came with, if they came
        as Parquet, a data frame or an Arrow table. It reads the Parquet itself if it is on this
        machine.

        Args:
            columns: only these.
            follow: wait for rows that are to come; False gives what has landed by now.

        Raises:
            JobPaused: rows that are to come are waiting for somebody to resume the job.
        """
        return self._table(columns, follow)

    def to_pandas(self, *, columns: Sequence[str] | None = None, follow: bool = True) -> Any:
        """Give all rows as a pandas DataFrame; see `to_arrow`.

        Rows that came as a DataFrame have its index again, unless that only counted them.
        """
        return tables.to_pandas(self._table(columns, follow, has_index=True))

    def to_polars(self, *, columns: Sequence[str] | None = None, follow: bool = True) -> Any:
        """Give all rows as a polars DataFrame; see `to_arrow`."""
        return tables.to_polars(self.to_arrow(columns=columns, follow=follow))

    def to_datasets(self, *, columns: Sequence[str] | None = None, follow: bool = True) -> Any:
        """Give all rows as a `datasets.Dataset`; see `to_arrow`."""
        return tables.to_datasets(self.to_arrow(columns=columns, follow=follow))

    def download(
        self, path: str | Path, *, columns: Sequence[str] | None = None, follow: bool = True
    ) -> Path:
        """Save all rows as one file, page by page; returns where it is.

        Args:
            path: a file `.parquet` or `.jsonl`, or a directory, which gets `<job_id>.parquet`.
            columns: only these.
            follow: wait for rows that are to come; False gives what has landed by now.
        """
        where = download_path(path, self.id)
        pager = TablePager(self.id, columns=columns, follow=follow)
        with open_download(where) as download:
            for page in pages(self._connection, pager):
                download.write(page)
        return where

    def _table(
        self, columns: Sequence[str] | None, follow: bool, *, has_index: bool = False
    ) -> "pa.Table":
        landed = partial(tables.landed_table, has_index=has_index)
        table = landed(self.record, columns)
        if table is not None:
            return table
        pager = TablePager(self.id, columns=columns, follow=follow, has_index=has_index)
        return tables.joined(list(pages(self._connection, pager)))
