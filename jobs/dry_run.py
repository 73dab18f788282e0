"""A dry run: every row of an input is rendered and counted as it would be, and nothing is made.

Knows requests and what may be wrong with them; the fault of one row stays one row's. Templates may
do much work here, so it belongs into a process that may be ended: see `dry_run_process`.
"""

import logging
from collections import Counter
from typing import Any

import msgspec

from .columns import ColumnTypes
from .digest_table import DigestTable, digest_of
from .dry_run_model import ModelAtHand
from .dry_run_report import (
    MAX_KINDS,
    MAX_LINES_SHOWN,
    MAX_REPEATS_SHOWN,
    MAX_SHOWN,
    BadLines,
    DryRunReport,
    Refusal,
    Repeat,
    Repeats,
    RowFault,
    RowFaults,
)
from .dry_run_tokens import EXACT_ROWS, TokenBill
from .dry_run_warnings import warnings_of
from .errors import InvalidJob
from .inputs import InputRow
from .model import RejectedLine, RequestError
from .row_request import RowRequest, row_request
from .submit_request import (
    MAX_COLUMNS,
    SubmitRequest,
    check_columns,
    check_request,
    custom_id_of,
    no_usable_rows,
)

_OTHERS = RequestError("other", "of more kinds than are told apart here")

logger = logging.getLogger(__name__)


class DryRun:
    """Takes an input piece by piece; `report` tells at any time what is known by then.

    Raises:
        InvalidJob, InvalidSampling: the request cannot become a job, whatever the input.
    """

    def __init__(
        self,
        request: SubmitRequest,
        model: ModelAtHand | None,
        unchecked: tuple[str, ...] = (),
        *,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        self._templates = check_request(request)
        self._request = request
        self._params = request.task.sampling_params()
        self._model = model
        self._unchecked = unchecked
        self._columns = ColumnTypes()
        self._bill = TokenBill(model, exact_rows)
        self._faults = _FaultBook()
        self._bad_lines = _BadLineBook()
        self._requests = _RepeatBook()
        self._ids = _RepeatBook()
        self._write = msgspec.msgpack.Encoder().encode
        self._num_rows = 0

    def take(self, item: InputRow | RejectedLine) -> None:
        """Look at a line of the input."""
        if isinstance(item, RejectedLine):
            self._bad_lines.add(item)
            return
        try:
            fault = self._fault_of(item)
        except MemoryError:
            message = "the row takes more memory than a dry run may have"
            fault = RequestError("out_of_memory", message, stage="render")
        except Exception as error:  # whatever one row brings out, the others are looked at, too
            logger.exception("cannot look at line %d", item.line)
            fault = RequestError("internal_error", f"{type(error).__name__}: {error}"[:500])
        if fault is not None:
            self._faults.add(item.line, fault)

    def report(
        self, *, complete: bool = False, stopped: str | None = None, share_read: float | None = None
    ) -> DryRunReport:
        """Tell what is known by now."""
        unchecked = list(self._unchecked)
        if self._model is not None and self._model.unchecked is not None:
            unchecked.append(self._model.unchecked)
        return DryRunReport(
            rows=self._num_rows,
            answers=self._bill.num_answers,
            bad_lines=self._bad_lines.told(),
            row_errors=self._faults.told(),
            too_long=self._bill.long_rows(),
            duplicates=self._requests.told(),
            duplicate_ids=self._ids.told(),
            output_at_most=self._bill.output_at_most,
            input_tokens=self._bill.input_tokens(),
            prefix_reuse=self._bill.prefix_reuse(),
            unchecked=unchecked,
            warnings=self._warnings(),
            refusal=self._refusal() if complete else None,
            complete=complete,
            stopped=stopped,
            share_read=1.0 if complete else share_read,
        )

    def _fault_of(self, item: InputRow) -> RequestError | None:
        try:
            self._write(item.row)
        except (ValueError, RecursionError) as error:  # as when it is sealed
            message = f"cannot be kept as JSON: {error}"[:300]
            self._bad_lines.add(RejectedLine(item.line, message))
            return None
        self._num_rows += 1
        if len(self._columns) <= MAX_COLUMNS:
            self._columns.add(item.row)
        custom_id = custom_id_of(self._request, item.row)
        if custom_id is not None:
            self._ids.add(custom_id.encode(), item.line, custom_id)
        wish = row_request(self._request.task, self._params, item.row, custom_id)
        if isinstance(wish, RequestError):
            return wish
        said = self._said(wish)
        self._requests.add(said, item.line, custom_id)
        return self._bill.add(wish, len(said), item.line)

    def _said(self, wish: RowRequest) -> bytes:
        """Write down all that makes a request another one."""
        prompt, own = wish.prompt, None if wish.params is self._params else wish.params
        return self._write(
            (prompt.text, prompt.messages, own, wish.tools, wish.template_options, wish.embed)
        )

    def _warnings(self) -> list[str]:
        window = None if self._model is None else self._model.context_window
        columns = list(self._columns.settled())
        return warnings_of(self._request, columns, self._num_rows, window)

    def _refusal(self) -> Refusal | None:
        """Tell why submission would refuse the input as a whole."""
        if not self._num_rows:
            first = next(iter(self._bad_lines.told().errors), None)
            return Refusal("input", str(no_usable_rows(first)))
        if len(self._columns) > MAX_COLUMNS:
            return Refusal("input", f"the input has more than {MAX_COLUMNS} columns")
        try:
            check_columns(self._request, self._templates, list(self._columns.settled()))
        except InvalidJob as error:
            return Refusal(error.param or "input", str(error))
        return None


class _BadLineBook:
    """Lines that are no rows."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[RejectedLine] = []

    def add(self, line: RejectedLine) -> None:
        self._count += 1
        if len(self._first) < MAX_SHOWN:
            self._first.append(line)

    def told(self) -> BadLines:
        return BadLines(self._count, list(self._first))


class _FaultBook:
    """Rows that would fail, by what is said of them."""

    def __init__(self) -> None:
        self._counts: Counter[RequestError] = Counter()
        self._lines: dict[RequestError, list[int]] = {}

    def add(self, line: int, fault: RequestError) -> None:
        if fault not in self._counts and len(self._counts) >= MAX_KINDS:
            fault = _OTHERS
        self._counts[fault] += 1
        lines = self._lines.setdefault(fault, [])
        if len(lines) < MAX_LINES_SHOWN:
            lines.append(line)

    def told(self) -> RowFaults:
        kinds = [
            RowFault(fault.code, fault.param, fault.message, count, list(self._lines[fault]))
            for fault, count in self._counts.most_common()
        ]
        return RowFaults(self._counts.total(), kinds)


class _RepeatBook:
    """What was said before, of whatever can be said."""

    def __init__(self) -> None:
        self._seen = DigestTable()
        self._total = 0
        self._first: list[Repeat] = []

    def add(self, said: Any, line: int, custom_id: str | None) -> None:
        self._total += 1
        earlier = self._seen.add(digest_of(said), line)
        if earlier is not None and len(self._first) < MAX_REPEATS_SHOWN:
            self._first.append(Repeat(line, earlier, custom_id))

    def told(self) -> Repeats:
        count = max(0, self._total - self._seen.num_distinct)
        return Repeats(count, self._seen.is_exact, list(self._first))
