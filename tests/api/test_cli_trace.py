"""`penstock show RUN --row ID`: of a row that failed it is told in which step, and why."""

import io

from rich.console import Console

from penstock.api.cli_output import OutputFormat, Printer
from penstock.api.cli_trace_output import print_trace

ERROR = {"code": "engine_error", "message": "no such word", "stage": "engine"}


def test_each_step_tells_how_it_ended() -> None:
    printer = Printer(OutputFormat.TABLE)
    printer.out = Console(file=io.StringIO(), width=100)
    meta = {"status": "skipped", "error_code": "upstream_failed"}
    traces = [
        {"step": "a", "row_id": "31", "meta": {"status": "succeeded"}, "value": "x"},
        {"step": "b", "row_id": "31", "meta": None, "error": ERROR},
        {"step": "c", "row_id": "31", "meta": meta},
    ]
    print_trace(printer, traces)
    assert isinstance(printer.out.file, io.StringIO)
    words = [line.split() for line in printer.out.file.getvalue().splitlines() if line]
    assert words == [
        ["a", "31"],
        ["status", "succeeded"],
        ["value", "x"],
        ["b", "31"],
        ["status", "failed"],
        ["error", "engine_error:", "no", "such", "word"],
        ["c", "31"],
        ["status", "skipped"],
        ["error", "upstream_failed"],
    ]
