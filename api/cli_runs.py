"""The verbs about jobs, where what they are given is a run of a workflow: `penstock show run_…`.

Knows the client and how to print; a watcher who leaves never harms the run.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice

import typer

from .cli_exit import EXIT_PAUSED, exit_code
from .cli_onlooker import PauseNotes, Telling, detached, leaving, resume_with
from .cli_output import Printer
from .cli_runs_output import print_errors, print_rows, print_run, run_summary
from .cli_trace_output import print_trace
from .client import Client
from .client_errors import JobFailed, JobPaused
from .patient_wait import both
from .run_calls import RunChanges
from .run_progress import RunProgress
from .wording import counted
from .workflow_records import RunRecord
from .workflow_run import WorkflowRun

_SCREENFUL = 20
_ERRORS_READ = 10_000  # of which a terminal is told the kinds


def show_run(client: Client, printer: Printer, run_id: str, row_id: str | None = None) -> None:
    """Show a run, or the history of one of its rows."""
    run = client.workflows.get(run_id)
    if row_id is None:
        print_run(printer, run.record)
    else:
        print_trace(printer, run.row(row_id))


def watch_run(client: Client, printer: Printer, run_id: str) -> None:
    """Follow a run to its end, and say how it ended; the exit code says so too.

    A program gets the run as JSON whenever one of its steps begins or ends, and at the end.
    """
    run = client.workflows.get(run_id)

    def how_to_return() -> str:
        return detached(run.record)

    if printer.is_json:
        told: list[object] = []
        pauses = PauseNotes(printer)

        def tell(record: RunRecord) -> None:
            stage = (record.status, *(step.state for step in record.steps))
            if told[-1:] != [stage]:
                told.append(stage)
                printer.json_line(record.raw)
            pauses.look(record)

        wait = partial(run.wait, through_pauses=printer.has_onlooker, on_look=tell)
        _follow(printer, wait, how_to_return)
    else:
        follow_run(printer, run, how_to_return)
    printer.note(run_summary(run.record))
    if run.record.error:
        printer.note(f"error: {run.record.error}")
    raise typer.Exit(exit_code(run.status, run.record.rejected))


def run_results(
    client: Client,
    printer: Printer,
    run_id: str,
    *,
    limit: int | None,
    follow: bool,
    step: str | None = None,
) -> None:
    """Print rows of a run's output, or of one of its steps."""
    run = client.workflows.get(run_id)
    if limit is None and not printer.is_json and not follow:
        limit = _SCREENFUL
    page_rows = min(1000, limit or 1000)
    rows = (
        run.results(follow=follow, page_rows=page_rows)
        if step is None
        else run.step_rows(step, follow=follow, page_rows=page_rows)
    )
    print_rows(printer, islice(rows, limit))
    if not follow and not run.is_final:
        printer.note(f"the run is {run.status}: this is what has landed; --follow waits")


def run_errors(
    client: Client, printer: Printer, run_id: str, *, step: str | None, code: str | None
) -> None:
    """List what went wrong in a run: all of it in a pipe, what is alike as one on a terminal."""
    run = client.workflows.get(run_id)
    found = run.errors(step=step, code=code)
    num_shown = print_errors(printer, found if printer.is_json else islice(found, _ERRORS_READ))
    if not num_shown:
        printer.note(_none_found(run.record, step, code))
    elif not printer.is_json and next(found, None) is not None:
        steps = run.steps if step is None else (run.step(step),)
        total = sum(sum(each.errors_by_code.values()) for each in steps)
        total += run.record.rejected if step is None else 0
        of_all = f" of {total:,}" if code is None else ""
        printer.note(f"{num_shown:,}{of_all} errors: a pipe, or -o json, gets them all")


def change_run(client: Client, printer: Printer, run_id: str, changes: RunChanges) -> None:
    """Change a run while it lives."""
    print_run(printer, client.workflows.get(run_id).update(**changes).record)


def retry_run(client: Client, printer: Printer, run_id: str, *, watch: bool) -> None:
    """Run again what failed of a run that has ended; what succeeded is taken over."""
    run = client.workflows.get(run_id).retry()
    if watch:
        watch_run(client, printer, run.id)
        return
    print_run(printer, run.record)
    printer.note(f"penstock watch {run.id}  follows it; it lands a whole output of its own")


def steer_run(client: Client, printer: Printer, run_id: str, verb: str) -> None:
    """Pause, resume or cancel a run."""
    run = client.workflows.get(run_id)
    if run.is_final:
        printer.note(f"the run had ended ({run.status}): nothing was done")
    else:
        {"pause": run.pause, "resume": run.resume, "cancel": run.cancel}[verb]()
    print_run(printer, run.record)


def follow_run(
    printer: Printer,
    run: WorkflowRun,
    how_to_return: Telling,
    how_to_resume: Callable[[str], str] = resume_with,
) -> None:
    """Show a run's progress until it has ended; where it pauses, say how it goes on.

    Raises:
        typer.Exit: the watcher left with Ctrl-C, `how_to_return` says what that means; or the run
            pauses, and nobody looks on who could resume it.
    """

    def wait() -> None:
        try:
            # On one console, so that notes stand above the table.
            with RunProgress(printer.err, tells_pauses=False) as board:
                on_look = both(board.show, PauseNotes(printer, how_to_resume).look)
                run.wait(through_pauses=printer.has_onlooker, on_look=on_look)
        except JobPaused:
            if printer.is_json:
                printer.json_line(run.record.raw)
            raise

    _follow(printer, wait, how_to_return)


def _follow(printer: Printer, wait: Callable[[], object], how_to_return: Telling) -> None:
    try:
        with leaving(printer, how_to_return):
            wait()
    except JobFailed:
        pass  # how it failed is told with how it ended
    except JobPaused:  # of which the notes have told
        raise typer.Exit(EXIT_PAUSED) from None


def _none_found(record: RunRecord, step: str | None, code: str | None) -> str:
    """Say that nothing went wrong, or that what did has another code or was in another step."""
    total = record.rejected + sum(sum(each.errors_by_code.values()) for each in record.steps)
    if not total:
        return "no line was rejected, and no row has failed"
    of_code = "" if code is None else f" of the code {code!r}"
    in_step = "" if step is None else f" in step {step}"
    return f"no error{of_code}{in_step}; {counted(total, 'error')} in all"
