"""What went wrong in a job: all of it, in as many answers as it takes. Does no IO (see `talk`)."""

from typing import Any

from .job_calls import job_errors
from .results_pager import ResultsPager
from .retry_policy import RetryPolicy
from .talk import Talk

_AT_ONCE = 10_000  # of either list, as many as the server tells at once
_COLUMNS = ("row_index", "custom_id", "sample_index", "error")


def all_errors(job_id: str, limit: int | None, retry: RetryPolicy) -> Talk[list[dict[str, Any]]]:
    """Fetch the rejected lines (ten thousand at most) and the failed rows, or `limit` of either."""
    told = yield from job_errors(job_id, retry, limit=limit or _AT_ONCE)
    lines = [error for error in told if "line" in error]
    if limit is not None or len(told) - len(lines) < _AT_ONCE:
        return told
    pager = ResultsPager(
        job_id, status="failed", follow=False, page_rows=_AT_ONCE, columns=_COLUMNS
    )
    rows: list[dict[str, Any]] = []
    while not pager.is_done:
        rows += yield from pager.next_page(retry)
    return [*lines, *rows]
