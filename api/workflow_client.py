"""Workflows as a program runs them; `async_workflow_client` is the twin for asyncio.

Knows what can be asked for; what is said is written in `workflow_calls`, and a `Connection` carries
it out.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import tables, workflow_calls
from .client_events import follow
from .connection import Connection
from .payloads import open_upload
from .records import JobEvent, Row
from .run_facts import RunFacts
from .run_pager import RunPager, RunTablePager
from .workflow import Workflow
from .workflow_calls import OnRun, RunChanges, RunOptions
from .workflow_records import RunRecord
from .workflow_trial import (
    AnyInputs,
    AnyWorkflow,
    Inputs,
    Specified,
    counts_of,
    specified,
    trial_of,
)

if TYPE_CHECKING:
    import pyarrow as pa


class Workflows:
    """Workflows: checked, tried, kept and run.

    A workflow is a `Workflow`, its specification as a mapping, the path of a file of YAML or JSON,
    or the name under which one is kept. `inputs` are rows by the names of the workflow's inputs:
    files, iterables of dicts or data frames, as `jobs.submit` takes them. Where there is one
    input, its rows will do, without a name.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(
        self, workflow: AnyWorkflow, inputs: AnyInputs, **options: Unpack[RunOptions]
    ) -> "WorkflowRun":
        """Begin a run; returns once the server has its rows safely on disk.

        Raises:
            InvalidInput: the rows, or the workflow's file, cannot be read or sent.
            BadRequest: the server found something wrong; `errors` lists all of it.
        """
        said, named = self._said(workflow, inputs)
        with ExitStack() as stack:
            uploads = {name: stack.enter_context(open_upload(rows)) for name, rows in named.items()}
            talk = workflow_calls.run_workflow(said, uploads, options, self._connection.retry)
            return WorkflowRun(self._connection, self._connection.run(talk))

    def validate(
        self,
        workflow: AnyWorkflow,
        inputs: AnyInputs = MappingProxyType({}),
        *,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Check a workflow with the first rows of its inputs: its steps, their columns and models.

        Raises:
            BadRequest: it cannot run; `errors` lists all problems.
        """
        said, named = self._said(workflow, inputs)
        trial = trial_of(said, named, params)
        return self._connection.run(workflow_calls.validate(trial, self._connection.retry))

    def preview(
        self,
        workflow: AnyWorkflow,
        inputs: AnyInputs,
        *,
        params: Mapping[str, Any] | None = None,
        rows: int = 3,
    ) -> dict[str, Any]:
        """Send the first rows through every step: what was asked, answered and made of each."""
        said, named = self._said(workflow, inputs)
        trial = trial_of(said, named, params, rows)
        talk = workflow_calls.preview(trial, self._connection.retry, num_rows=rows)
        return self._connection.run(talk)

    def plan(
        self,
        workflow: AnyWorkflow,
        inputs: AnyInputs,
        *,
        params: Mapping[str, Any] | None = None,
        sample_rows: int = 16,
        num_rows: Mapping[str, int] | None = None,
        tokens_per_s: float | None = None,
    ) -> dict[str, Any]:
        """Estimate rows, tokens and time of each step from a sample.

        Args:
            workflow: see the class.
            inputs: as a run would take them.
            params: values for the workflow's `params`.
            sample_rows: how many rows of each input are tried.
            num_rows: how many an input has, where that cannot be seen from it.
            tokens_per_s: what each model gives; by default the most its workers have given yet.
        """
        said, named = self._said(workflow, inputs)
        counts = counts_of(named, num_rows)
        trial = trial_of(said, named, params, sample_rows)
        talk = workflow_calls.plan(
            trial,
            counts,
            self._connection.retry,
            sample_rows=sample_rows,
            tokens_per_s=tokens_per_s,
        )
        return self._connection.run(talk)

    def save(self, workflow: AnyWorkflow) -> int:
        """Keep a workflow under its name; returns its version."""
        said = specified(workflow)
        talk = workflow_calls.store_workflow(said, self._connection.retry)
        return self._connection.run(talk)["version"]

    def load(self, name: str, *, version: int | None = None) -> Workflow:
        """Fetch a workflow that is kept, by default its newest version."""
        return self._connection.run(
            workflow_calls.get_workflow(name, version, self._connection.retry)
        )

    def saved(self) -> list[dict[str, Any]]:
        """List the newest version of each workflow that is kept."""
        return self._connection.run(workflow_calls.list_workflows(self._connection.retry))

    def forget(self, name: str) -> None:
        """Forget a workflow that is kept, with all its versions; its runs are left as they are."""
        self._connection.run(workflow_calls.forget_workflow(name, self._connection.retry))

    def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of specifications."""
        return self._connection.run(workflow_calls.get_schema(self._connection.retry))

    def get(self, run_id: str) -> "WorkflowRun":
        """Find a run by its id."""
        talk = workflow_calls.get_run(run_id, self._connection.retry)
        return WorkflowRun(self._connection, self._connection.run(talk))

    def list(self, *, limit: int = 20, after: str | None = None) -> "list[WorkflowRun]":
        """List runs, newest first; `after` is the last id of the page before."""
        talk = workflow_calls.list_runs(limit, after, self._connection.retry)
        return [WorkflowRun(self._connection, record) for record in self._connection.run(talk)]

    def delete(self, run_id: str) -> None:
        """Remove a run that has ended, its inputs and all its rows."""
        self._connection.run(workflow_calls.delete_run(run_id, self._connection.retry))

    def _said(self, workflow: AnyWorkflow, inputs: AnyInputs) -> tuple[Specified, Inputs]:
        return self._connection.run(
            workflow_calls.say_inputs(specified(workflow), inputs, self._connection.retry)
        )


class WorkflowRun(RunFacts):
    """A run of a workflow."""

    def __init__(self, connection: Connection, record: RunRecord) -> None:
        super().__init__(record)
        self._connection = connection

    def refresh(self) -> Self:
        """Look at the run again."""
        self.record = self._connection.run(workflow_calls.get_run(self.id, self._connection.retry))
        return self

    def wait(
        self,
        *,
        progress: bool = False,
        timeout_s: float | None = None,
        through_pauses: bool = False,
        on_look: OnRun = lambda record: None,
    ) -> Self:
        """Wait until the run has ended. An interruption leaves the run alone.

        Args:
            progress: draw how far each step is.
            timeout_s: how long to wait at most.
            through_pauses: wait on while it pauses for somebody to resume it.
            on_look: called with the run each time that it was looked at.

        Raises:
            WaitTimedOut: it has not ended in time.
            JobPaused: it goes no further until somebody resumes it.
            JobFailed: it could not run as a whole.
        """
        if progress:
            from .run_progress import RunProgress  # rich is slow to import

            with RunProgress() as board:
                self._wait(timeout_s, through_pauses, workflow_calls.both(board.show, on_look))
        else:
            self._wait(timeout_s, through_pauses, on_look)
        workflow_calls.raise_if_failed(self.record)
        return self

    def results(
        self, *, step: str | None = None, follow: bool = True, page_rows: int = 1000
    ) -> Iterator[Row]:
        """Yield the rows of the output, or of one step, waiting for those that are to come.

        Args:
            step: only what this step made.
            follow: False ends with what has landed by now.
            page_rows: how many rows one request asks for.

        Raises:
            JobPaused: with `follow`, once somebody is wanted to resume the run.
        """
        return self._rows(step, follow, page_rows)

    def step_rows(self, step: str, *, follow: bool = True, page_rows: int = 1000) -> Iterator[Row]:
        """Yield the rows of one step; see `results`."""
        return self._rows(step, follow, page_rows)

    def row(self, row_id: str) -> list[dict[str, Any]]:
        """Tell the history of a row: each step's requests, answers and value, from the input on."""
        return self._connection.run(
            workflow_calls.trace_row(self.id, row_id, self._connection.retry)
        )

    def errors(
        self, *, step: str | None = None, code: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield what went wrong by now: rejected lines, then rows that failed, step by step.

        Args:
            step: only what failed in this step.
            code: only errors of this code.
        """
        return self._errors(step, code)

    def events(self) -> Iterator[JobEvent]:
        """Yield what happens to the run, to its end; a broken connection goes on where it was."""
        return follow(self._connection, partial(workflow_calls.open_run_events, self.id))

    def cancel(self) -> Self:
        """Stop the run; what has landed stays."""
        return self._steer("cancel")

    def retry(self) -> "WorkflowRun":
        """Run again what failed, once the run has ended: a run of its own, which asks only that."""
        talk = workflow_calls.retry_run(self.id, self._connection.retry)
        return WorkflowRun(self._connection, self._connection.run(talk))

    def update(self, **changes: Unpack[RunChanges]) -> Self:
        """Change the name, the priority or the metadata; it acts at once."""
        talk = workflow_calls.change_run(self.id, changes, self._connection.retry)
        self.record = self._connection.run(talk)
        return self

    def pause(self) -> Self:
        """Begin nothing more; what runs goes on to its end, and is kept."""
        return self._steer("pause")

    def resume(self) -> Self:
        """Go on after a pause."""
        return self._steer("resume")

    def to_arrow(self, *, follow: bool = True) -> "pa.Table":
        """Give all rows as an Arrow table: the Parquet itself when it is on this machine.

        Documents are JSON text; those of a simple schema are also in `<column>__parsed`, typed.
        """
        table = tables.landed_table(self.record)
        return tables.joined(self._tables(follow)) if table is None else table

    def to_pandas(self, *, follow: bool = True) -> Any:
        """Give all rows as a pandas DataFrame; see `to_arrow`."""
        return tables.to_pandas(self.to_arrow(follow=follow))

    def to_polars(self, *, follow: bool = True) -> Any:
        """Give all rows as a polars DataFrame; see `to_arrow`."""
        return tables.to_polars(self.to_arrow(follow=follow))

    def _rows(self, step: str | None, follow: bool, page_rows: int) -> Iterator[Row]:
        pager = RunPager(self.id, step, follow=follow, page_rows=page_rows)
        while not pager.is_done:
            yield from self._connection.run(pager.next_page(self._connection.retry))

    def _tables(self, follow: bool) -> "Iterator[pa.Table]":
        pager = RunTablePager(self.id, follow=follow)
        while not pager.is_done:
            yield self._connection.run(pager.next_page(self._connection.retry))

    def _errors(self, step: str | None, code: str | None) -> Iterator[dict[str, Any]]:
        pager = workflow_calls.ErrorPager(self.id, step, code)
        while not pager.is_done:
            yield from self._connection.run(pager.next_page(self._connection.retry))

    def _steer(self, verb: str) -> Self:
        talk = workflow_calls.steer_run(self.id, verb, self._connection.retry)
        self.record = self._connection.run(talk)
        return self

    def _wait(self, timeout_s: float | None, through_pauses: bool, on_run: OnRun) -> None:
        talk = workflow_calls.wait_for_run(
            self.id,
            self._connection.retry,
            timeout_s=timeout_s,
            through_pauses=through_pauses,
            on_run=workflow_calls.both(self._saw, on_run),
        )
        self.record = self._connection.run(talk)
