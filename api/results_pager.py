"""How a job's landed rows are asked for, page by page. Does no IO (see `talk`)."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

import httpx2

from .client_errors import JobPaused
from .job_calls import pauses_for_somebody
from .patient_wait import LONG_POLL_S, PAUSE_S, long_poll, patient
from .records import JobRecord, ResultsPage, Row, Rows
from .rest_paths import path_to
from .retry_policy import RetryPolicy
from .tables import index_columns, need, read_stream
from .talk import Send, Talk, ask

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS = 10_000  # of a page: as many as the server gives at once


class Pager(Generic[Rows]):
    """Walks a job's landed rows in the order of the input, page by page.

    With `follow` it waits for rows that have not landed yet, until the job has ended or pauses for
    somebody to resume it. A server that is away for two minutes is borne: the cursor is ours.
    """

    def __init__(
        self,
        job_id: str,
        read: Callable[[httpx2.Response], ResultsPage[Rows]],
        *,
        format: str,
        status: str | None,
        follow: bool,
        page_rows: int,
        columns: Sequence[str] | None = None,
    ) -> None:
        if not 1 <= page_rows <= _MOST_ROWS:
            raise ValueError(f"page_rows must be from 1 to {_MOST_ROWS}, got {page_rows}")
        self.is_done = False
        self._read = read
        self._format = format
        self._columns = [columns] if isinstance(columns, str) else columns
        self._job_id = job_id
        self._path = path_to("jobs", job_id, "results")
        self._status = status
        self._follow = follow
        self._page_rows = page_rows
        self._cursor: str | None = None
        self._seen: JobRecord | None = None
        self._pause: JobPaused | None = None

    def next_page(self, retry: RetryPolicy) -> Talk[Rows]:
        """Fetch the next rows; none at all is a page, too.

        Raises:
            JobPaused: those that are to come are waiting for somebody to resume the job.
        """
        page = yield from self._fetch(retry)
        is_all_for_now = not len(page.rows) and page.next_cursor == self._cursor
        self._cursor = page.next_cursor
        self.is_done = page.next_cursor is None or (
            is_all_for_now and not (page.incomplete and self._follow)
        )
        if is_all_for_now and not self.is_done:
            if self._pause is not None:  # and nothing has landed since we saw that
                raise self._pause
            # Comes back when something has changed.
            record = yield from ask(self._look(), patient(retry), _read_job)
            self._seen = record
            self._pause = _pause_of(record)
        else:
            self._pause = None
        return page.rows

    def _fetch(self, retry: RetryPolicy) -> Talk[ResultsPage[Rows]]:
        params: dict[str, str | int | float | list[str]] = {"limit": self._page_rows}
        params |= {"format": self._format}
        params |= {"after": self._cursor} if self._cursor else {}
        params |= {"status": self._status} if self._status else {}
        params |= {} if self._columns is None else {"columns": list(self._columns)}
        send = Send("GET", self._path, params=params)
        return (yield from ask(send, patient(retry), self._read))

    def _look(self) -> Send:
        # The first look is a short one: it may have paused long ago.
        wait_s = 0.0 if self._seen is None else LONG_POLL_S
        params = long_poll(wait_s, self._seen)
        return Send("GET", path_to("jobs", self._job_id), params=params, after_s=PAUSE_S)


class ResultsPager(Pager[tuple[Row, ...]]):
    """Walks the rows as objects; with a pydantic `model`, their answers are instances of it."""

    def __init__(
        self,
        job_id: str,
        *,
        status: str | None,
        follow: bool,
        page_rows: int,
        model: Any = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            job_id,
            partial(_read_rows, model),
            format="jsonl",
            status=status,
            follow=follow,
            page_rows=page_rows,
            columns=columns,
        )


class TablePager(Pager["pa.Table"]):
    """Walks the rows as Arrow tables, whose columns have the types that they came with.

    With `has_index`, columns that were a frame's index come along, whichever are chosen.
    """

    def __init__(
        self,
        job_id: str,
        *,
        columns: Sequence[str] | None,
        follow: bool,
        has_index: bool = False,
    ) -> None:
        need("pyarrow", "a table of results")
        self._wants_index = has_index and columns is not None
        super().__init__(
            job_id,
            _read_table,
            format="arrow",
            status=None,
            follow=follow,
            page_rows=_MOST_ROWS,
            columns=columns,
        )

    def next_page(self, retry: RetryPolicy) -> Talk["pa.Table"]:
        """Fetch the next rows; see `Pager.next_page`."""
        if self._wants_index and self._columns is not None:
            send = Send("GET", self._path, params={"format": self._format, "limit": 1})
            first = yield from ask(send, patient(retry), self._read)
            index = [name for name in index_columns(first.rows) if name not in self._columns]
            self._columns, self._wants_index = [*self._columns, *index], False
        return (yield from super().next_page(retry))


def _pause_of(record: JobRecord) -> JobPaused | None:
    if not pauses_for_somebody(record):
        return None
    return JobPaused(
        f"job {record.id} pauses before all of its rows have landed ({record.status_reason}): "
        "resume it, or ask with follow=False for those that have",
        record.id,
    )


def _read_job(response: httpx2.Response) -> JobRecord:
    return JobRecord.from_json(response.json())


def _read_rows(model: Any, response: httpx2.Response) -> ResultsPage[tuple[Row, ...]]:
    # Not iter_lines(): it would also break lines at U+2028, which JSON text may hold.
    lines = (line for line in response.content.split(b"\n") if line)
    return _page(response, tuple(Row(json.loads(line), model) for line in lines))


def _read_table(response: httpx2.Response) -> "ResultsPage[pa.Table]":
    return _page(response, read_stream(response.content))


def _page(response: httpx2.Response, rows: Rows) -> ResultsPage[Rows]:
    return ResultsPage(
        rows=rows,
        next_cursor=response.headers.get("x-next-cursor") or None,
        incomplete=response.headers.get("x-incomplete", "").lower() in ("1", "true"),
    )
