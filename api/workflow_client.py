"""Workflows as a program has them checked, kept and run.

Knows what can be asked for; what is said is written in `workflow_calls` and `run_calls`, and a
connection carries it out.

Written from `async_workflow_client`: see `tests/api/twins.py`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Unpack

from . import run_calls, workflow_calls
from .connection import Connection
from .open_inputs import open_uploads
from .run_calls import RunChanges, RunOptions
from .workflow import Workflow
from .workflow_run import WorkflowRun
from .workflow_trial import (
    AnyInputs,
    AnyWorkflow,
    Inputs,
    Specified,
    counts_of,
    specified,
    trial_of,
)


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
    ) -> WorkflowRun:
        """Begin a run; returns once the server has its rows safely on disk.

        Raises:
            InvalidInput: the rows, or the workflow's file, cannot be read or sent.
            BadRequest: the server found something wrong; `errors` lists all of it.
        """
        said, named = self._said(workflow, inputs)
        with open_uploads(named) as uploads:
            talk = run_calls.run_workflow(said, uploads, options, self._connection.retry)
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
            tokens_per_s: what each model gives; by default what was measured here.
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
        stored = self._connection.run(talk)
        return stored["version"]

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

    def get(self, run_id: str) -> WorkflowRun:
        """Find a run by its id."""
        talk = run_calls.get_run(run_id, self._connection.retry)
        return WorkflowRun(self._connection, self._connection.run(talk))

    def list(
        self, *, limit: int = 20, after: str | None = None, status: str | Sequence[str] = ()
    ) -> "list[WorkflowRun]":
        """List runs, newest first; `after` is the last id of the page before.

        With `status`, only runs in this state, or in one of these.
        """
        talk = run_calls.list_runs(limit, after, self._connection.retry, status=status)
        records = self._connection.run(talk)
        return [WorkflowRun(self._connection, record) for record in records]

    def cancel(self, run_id: str) -> WorkflowRun:
        """Stop a run; what has landed stays."""
        return self._steer(run_id, "cancel")

    def pause(self, run_id: str) -> WorkflowRun:
        """Begin nothing more of a run; what runs goes on to its end, and is kept."""
        return self._steer(run_id, "pause")

    def resume(self, run_id: str) -> WorkflowRun:
        """Let a paused run go on."""
        return self._steer(run_id, "resume")

    def update(self, run_id: str, **changes: Unpack[RunChanges]) -> WorkflowRun:
        """Change a run's name, priority or metadata; it acts at once."""
        talk = run_calls.change_run(run_id, changes, self._connection.retry)
        return WorkflowRun(self._connection, self._connection.run(talk))

    def retry(self, run_id: str) -> WorkflowRun:
        """Run again what failed of a run that has ended; see `WorkflowRun.retry`."""
        talk = run_calls.retry_run(run_id, self._connection.retry)
        return WorkflowRun(self._connection, self._connection.run(talk))

    def delete(self, run_id: str) -> None:
        """Remove a run that has ended, its inputs and all its rows."""
        self._connection.run(run_calls.delete_run(run_id, self._connection.retry))

    def _steer(self, run_id: str, verb: str) -> WorkflowRun:
        talk = run_calls.steer_run(run_id, verb, self._connection.retry)
        return WorkflowRun(self._connection, self._connection.run(talk))

    def _said(self, workflow: AnyWorkflow, inputs: AnyInputs) -> tuple[Specified, Inputs]:
        said = specified(workflow)
        return self._connection.run(workflow_calls.say_inputs(said, inputs, self._connection.retry))
