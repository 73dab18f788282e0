"""Workflows as a program for asyncio has them checked, kept and run.

Knows what can be asked for; what is said is written in `workflow_calls` and `run_calls`, and a
connection carries it out.

`workflow_client` is the same without asyncio, and written from this: see `tests/api/twins.py`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Unpack

from . import run_calls, workflow_calls
from .async_workflow_run import AsyncWorkflowRun
from .connection import AsyncConnection
from .open_inputs import async_open_uploads
from .run_calls import RunChanges, RunOptions
from .workflow import Workflow
from .workflow_trial import (
    AnyInputs,
    AnyWorkflow,
    Inputs,
    Specified,
    counts_of,
    specified,
    trial_of,
)


class AsyncWorkflows:
    """Workflows: checked, tried, kept and run.

    A workflow is a `Workflow`, its specification as a mapping, the path of a file of YAML or JSON,
    or the name under which one is kept. `inputs` are rows by the names of the workflow's inputs:
    files, iterables of dicts or data frames, as `jobs.submit` takes them. Where there is one
    input, its rows will do, without a name.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(
        self, workflow: AnyWorkflow, inputs: AnyInputs, **options: Unpack[RunOptions]
    ) -> AsyncWorkflowRun:
        """Begin a run; returns once the server has its rows safely on disk.

        Raises:
            InvalidInput: the rows, or the workflow's file, cannot be read or sent.
            BadRequest: the server found something wrong; `errors` lists all of it.
        """
        said, named = await self._said(workflow, inputs)
        async with async_open_uploads(named) as uploads:
            talk = run_calls.run_workflow(said, uploads, options, self._connection.retry)
            return AsyncWorkflowRun(self._connection, await self._connection.run(talk))

    async def validate(
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
        said, named = await self._said(workflow, inputs)
        trial = await asyncio.to_thread(trial_of, said, named, params)
        return await self._connection.run(workflow_calls.validate(trial, self._connection.retry))

    async def preview(
        self,
        workflow: AnyWorkflow,
        inputs: AnyInputs,
        *,
        params: Mapping[str, Any] | None = None,
        rows: int = 3,
    ) -> dict[str, Any]:
        """Send the first rows through every step: what was asked, answered and made of each."""
        said, named = await self._said(workflow, inputs)
        trial = await asyncio.to_thread(trial_of, said, named, params, rows)
        talk = workflow_calls.preview(trial, self._connection.retry, num_rows=rows)
        return await self._connection.run(talk)

    async def plan(
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
        said, named = await self._said(workflow, inputs)
        counts = await asyncio.to_thread(counts_of, named, num_rows)
        trial = await asyncio.to_thread(trial_of, said, named, params, sample_rows)
        talk = workflow_calls.plan(
            trial,
            counts,
            self._connection.retry,
            sample_rows=sample_rows,
            tokens_per_s=tokens_per_s,
        )
        return await self._connection.run(talk)

    async def save(self, workflow: AnyWorkflow) -> int:
        """Keep a workflow under its name; returns its version."""
        said = await asyncio.to_thread(specified, workflow)
        talk = workflow_calls.store_workflow(said, self._connection.retry)
        stored = await self._connection.run(talk)
        return stored["version"]

    async def load(self, name: str, *, version: int | None = None) -> Workflow:
        """Fetch a workflow that is kept, by default its newest version."""
        return await self._connection.run(
            workflow_calls.get_workflow(name, version, self._connection.retry)
        )

    async def saved(self) -> list[dict[str, Any]]:
        """List the newest version of each workflow that is kept."""
        return await self._connection.run(workflow_calls.list_workflows(self._connection.retry))

    async def forget(self, name: str) -> None:
        """Forget a workflow that is kept, with all its versions; its runs are left as they are."""
        await self._connection.run(workflow_calls.forget_workflow(name, self._connection.retry))

    async def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of specifications."""
        return await self._connection.run(workflow_calls.get_schema(self._connection.retry))

    async def get(self, run_id: str) -> AsyncWorkflowRun:
        """Find a run by its id."""
        talk = run_calls.get_run(run_id, self._connection.retry)
        return AsyncWorkflowRun(self._connection, await self._connection.run(talk))

    async def list(
        self, *, limit: int = 20, after: str | None = None, status: str | Sequence[str] = ()
    ) -> "list[AsyncWorkflowRun]":
        """List runs, newest first; `after` is the last id of the page before.

        With `status`, only runs in this state, or in one of these.
        """
        talk = run_calls.list_runs(limit, after, self._connection.retry, status=status)
        records = await self._connection.run(talk)
        return [AsyncWorkflowRun(self._connection, record) for record in records]

    async def cancel(self, run_id: str) -> AsyncWorkflowRun:
        """Stop a run; what has landed stays."""
        return await self._steer(run_id, "cancel")

    async def pause(self, run_id: str) -> AsyncWorkflowRun:
        """Begin nothing more of a run; what runs goes on to its end, and is kept."""
        return await self._steer(run_id, "pause")

    async def resume(self, run_id: str) -> AsyncWorkflowRun:
        """Let a paused run go on."""
        return await self._steer(run_id, "resume")

    async def update(self, run_id: str, **changes: Unpack[RunChanges]) -> AsyncWorkflowRun:
        """Change a run's name, priority or metadata; it acts at once."""
        talk = run_calls.change_run(run_id, changes, self._connection.retry)
        return AsyncWorkflowRun(self._connection, await self._connection.run(talk))

    async def retry(self, run_id: str) -> AsyncWorkflowRun:
        """Run again what failed of a run that has ended; see `AsyncWorkflowRun.retry`."""
        talk = run_calls.retry_run(run_id, self._connection.retry)
        return AsyncWorkflowRun(self._connection, await self._connection.run(talk))

    async def delete(self, run_id: str) -> None:
        """Remove a run that has ended, its inputs and all its rows."""
        await self._connection.run(run_calls.delete_run(run_id, self._connection.retry))

    async def _steer(self, run_id: str, verb: str) -> AsyncWorkflowRun:
        talk = run_calls.steer_run(run_id, verb, self._connection.retry)
        return AsyncWorkflowRun(self._connection, await self._connection.run(talk))

    async def _said(self, workflow: AnyWorkflow, inputs: AnyInputs) -> tuple[Specified, Inputs]:
        said = await asyncio.to_thread(specified, workflow)
        return await self._connection.run(
            workflow_calls.say_inputs(said, inputs, self._connection.retry)
        )
