"""How the rows of a workflow's run are asked for, page by page. Does no IO (see `talk`)."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic

import httpx2

from ..jobs.model import JobState
from .client_errors import JobPaused
from .patient_wait import LONG_POLL_S, PAUSE_S, long_poll
from .records import Row, Rows
from .rest_paths import path_to
from .retry_policy import RetryPolicy
from .tables import read_stream
from .talk import Send, Talk, ask
from .workflow_records import RunRecord

if TYPE_CHECKING:
    import pyarrow as pa

_TABLE_ROWS = 10_000  # of a page: as many as the server gives at once


class Pager(Generic[Rows]):
    """Walks the rows of a run's output, or of one step, page by page.

    With `follow` it waits for rows that have not landed yet, until the run has ended.
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
        self.is_done = False
        self._run_id = run_id
        names = ("results",) if step is None else ("steps", step, "rows")
        self._path = path_to("workflows", "runs", run_id, *names)
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
        rows, headers = yield from ask(send, retry, lambda r: (self._read(r), r.headers))
        self._cursor = headers.get("x-next-cursor") or None
        is_all_for_now = len(rows) < self._page_rows
        is_incomplete = headers.get("x-incomplete") == "true"
        self.is_done = self._cursor is None or (
            is_all_for_now and not (is_incomplete and self._follow)
        )
        if is_all_for_now and not self.is_done:
            is_paused = self._seen is not None and self._seen.status is JobState.PAUSED
            if is_paused and not len(rows):  # and nothing has come since we saw that
                raise JobPaused(f"run {self._run_id} pauses: resume it", self._run_id)
            # Comes back when something has changed.
            params = long_poll(LONG_POLL_S, self._seen)
            send = Send(
                "GET", path_to("workflows", "runs", self._run_id), params=params, after_s=PAUSE_S
            )
            self._seen = yield from ask(send, retry, _read_run)
        return rows


class RunPager(Pager[tuple[Row, ...]]):
    """Walks the rows as objects."""

    def __init__(self, run_id: str, step: str | None, *, follow: bool, page_rows: int) -> None:
        super().__init__(
            run_id, step, _read_rows, format="jsonl", follow=follow, page_rows=page_rows
        )


class RunTablePager(Pager["pa.Table"]):
    """Walks the rows of the output as Arrow tables, as they lie in the server's Parquet."""

    def __init__(self, run_id: str, *, follow: bool) -> None:
        super().__init__(
            run_id, None, _read_table, format="arrow", follow=follow, page_rows=_TABLE_ROWS
        )


def _read_rows(response: httpx2.Response) -> tuple[Row, ...]:
    # Not iter_lines(): it would also break lines at U+2028, which JSON text may hold.
    return tuple(Row(json.loads(line)) for line in response.content.split(b"\n") if line)


def _read_table(response: httpx2.Response) -> "pa.Table":
    return read_stream(response.content)


def _read_run(response: httpx2.Response) -> RunRecord:
    return RunRecord.from_json(response.json())
