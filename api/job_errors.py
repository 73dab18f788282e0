"""What went wrong in a job, in as many answers as it takes. Does no IO (see `talk`)."""

from collections.abc import Sequence
from typing import Any

from .job_calls import job_errors
from .results_pager import ResultsPager
from .retry_policy import RetryPolicy
from .talk import Talk

REJECTED_LINE = "rejected_line"  # the code of a line that could not become a row

_AT_ONCE = 10_000  # of either list, as many as the server tells at once
_COLUMNS = ("row_index", "custom_id", "sample_index", "error")


class JobErrorPager:
    """Walks the rejected lines (ten thousand at most) and the failed rows, or `limit` of either.

    With `code`, those of this code alone; that of lines is `rejected_line`.
    """

    def __init__(self, job_id: str, limit: int | None = None, code: str | None = None) -> None:
        self.is_done = False
        self._job_id = job_id
        self._limit = limit
        self._code = code
        self._rows: ResultsPager | None = None

    def next_page(self, retry: RetryPolicy) -> Talk[Sequence[dict[str, Any]]]:
        """Fetch what comes next; none at all is a page, too."""
        if self._rows is None:
            return (yield from self._first_page(retry))
        page = yield from self._rows.next_page(retry)
        self.is_done = self._rows.is_done
        return [row for row in page if self._code in (None, (row["error"] or {}).get("code"))]

    def _first_page(self, retry: RetryPolicy) -> Talk[Sequence[dict[str, Any]]]:
        """Fetch both lists; if there are more rows than fit, they are read from their first on."""
        limit = _AT_ONCE if self._limit is None else self._limit
        told = yield from job_errors(self._job_id, retry, limit=limit, code=self._code)
        lines = [error for error in told if "line" in error]
        if self._limit is not None or len(told) - len(lines) < _AT_ONCE:
            self.is_done = True
            return told
        self._rows = ResultsPager(
            self._job_id, status="failed", follow=False, page_rows=_AT_ONCE, columns=_COLUMNS
        )
        return lines
