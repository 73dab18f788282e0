"""How the rows of a workflow's run are asked for, page by page. Does no IO (see `talk`)."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

import httpx2

from ..jobs.model import JobState
from .client_errors import JobPaused
from .patient_wait import LONG_POLL_S, PAUSE_S, long_poll, patient
from .records import Rows
from .retry_policy import RetryPolicy
from .run_calls import run_path
from .run_row import RunRow
from .tables import need, read_stream, selected
from .talk import Send, Talk, ask
from .workflow_records import RunRecord

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS = 10_000  # of a page: as many as the server gives at once


class Pager(Generic[Rows]):
    """Walks the rows of a run's output, or of one step, page by page.

    With `follow` it waits for rows that have not landed yet, until the run has ended or pauses. A
    server that is away for two minutes is borne: the cursor is ours.
    """

    def __init__(
        self,
        run_id: str,
        step: str | None,
        read: Callable[[httpx2.Response], Rows],
        *,
        format: str,
        follow: bool,
        page_rows: int,
    ) -> None:
        if not 1 <= page_rows <= _MOST_ROWS:
            raise ValueError(f"page_rows must be from 1 to {_MOST_ROWS}, got {page_rows}")
        self.is_done = False
        self._run_id = run_id
        names = ("results",) if step is None else ("steps", step, "rows")
        self._path = run_path(run_id, *names)
        self._read = read
        self._format = format
        self._follow = follow
        self._page_rows = page_rows
        self._cursor: str | None = None
        self._seen: RunRecord | None = None

    def next_page(self, retry: RetryPolicy) -> Talk[Rows]:
        """Fetch the next rows; none at all is a page, too.

        Raises:
            JobPaused: those that are to come are waiting for somebody to resume the run.
        """
        params: dict[str, str | int] = {"limit": self._page_rows, "format": self._format}
        params |= {"after": self._cursor} if self._cursor else {}
        send = Send("GET", self._path, params=params)
        rows, headers = yield from ask(send, patient(retry), self._page)
        self._cursor = headers.get("x-next-cursor") or None
        is_all_for_now = len(rows) < self._page_rows
        is_incomplete = headers.get("x-incomplete") == "true"
        self.is_done = self._cursor is None or (
            is_all_for_now and not (is_incomplete and self._follow)
        )
        if is_all_for_now and not self.is_done:
            seen = self._seen
            if seen is not None and seen.status is JobState.PAUSED and not len(rows):
                raise _pause_of(seen)  # nothing has come since we saw that
            # Comes back when something has changed.
            params = long_poll(LONG_POLL_S, self._seen)
            look = Send("GET", run_path(self._run_id), params=params, after_s=PAUSE_S)
            self._seen = yield from ask(look, patient(retry), _read_run)
        return rows

    def _page(self, response: httpx2.Response) -> tuple[Rows, httpx2.Headers]:
        return self._read(response), response.headers


class RunPager(Pager[tuple[RunRow, ...]]):
    """Walks the rows as objects."""

    def __init__(self, run_id: str, step: str | None, *, follow: bool, page_rows: int) -> None:
        super().__init__(
            run_id, step, _read_rows, format="jsonl", follow=follow, page_rows=page_rows
        )


class RunTablePager(Pager["pa.Table"]):
    """Walks the rows as Arrow tables, as they lie in the server's Parquet, or some columns.

    With `has_index`, columns that were a frame's index come along, whichever are chosen.
    """

    def __init__(
        self,
        run_id: str,
        step: str | None,
        *,
        columns: Sequence[str] | None,
        follow: bool,
        has_index: bool = False,
    ) -> None:
        need("pyarrow", "a table of results")
        read = partial(_read_table, columns, has_index)
        super().__init__(run_id, step, read, format="arrow", follow=follow, page_rows=_MOST_ROWS)


class RunErrorPager:
    """Walks what went wrong in a run, page by page."""

    def __init__(self, run_id: str, step: str | None, code: str | None) -> None:
        self.is_done = False
        self._path = run_path(run_id, "errors")
        self._params = {
            name: value for name, value in (("step", step), ("code", code)) if value is not None
        }

    def next_page(self, retry: RetryPolicy) -> Talk[list[dict[str, Any]]]:
        """Fetch the next errors; none at all is a page, too."""
        send = Send("GET", self._path, params=self._params)
        page = yield from ask(send, retry, _read_json)
        self.is_done = page["next_cursor"] is None
        self._params = {**self._params, "after": page["next_cursor"]}
        return page["data"]


def _pause_of(record: RunRecord) -> JobPaused:
    why = record.status_reason or "somebody has paused it"
    return JobPaused(
        f"run {record.id} pauses before all of its rows have landed ({why}): resume it, or ask "
        "with follow=False for those that have",
        record.id,
    )


def _read_rows(response: httpx2.Response) -> tuple[RunRow, ...]:
    # Not iter_lines(): it would also break lines at U+2028, which JSON text may hold.
    return tuple(RunRow(json.loads(line)) for line in response.content.split(b"\n") if line)


def _read_table(
    columns: Sequence[str] | None, has_index: bool, response: httpx2.Response
) -> "pa.Table":
    table = read_stream(response.content)
    if not len(table):
        return table  # which has no columns
    return selected(table, columns, has_index=has_index)


def _read_json(response: httpx2.Response) -> dict[str, Any]:
    return response.json()


def _read_run(response: httpx2.Response) -> RunRecord:
    return RunRecord.from_json(response.json())
