"""What is said about runs of workflows. Knows the REST paths and their answers; does no IO."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict
from uuid import uuid4

import httpx2

from ..jobs.model import JobState
from .address import in_header
from .client_errors import JobPaused
from .patient_wait import wait_for_end
from .payloads import Remote, Upload
from .rest_paths import path_to
from .retry_policy import RetryPolicy
from .talk import Send, Talk, ask, post, read_list
from .workflow_document import plain
from .workflow_records import RunRecord
from .workflow_trial import Specified

OnRun: TypeAlias = Callable[[RunRecord], None]

_RUNS = "/v1/workflows/runs"
_KEPT = {  # for a day, should nobody come to delete it
    "purpose": "user_data",
    "expires_after[anchor]": "created_at",
    "expires_after[seconds]": "86400",
}
_SEALING_S = 3600.0  # the server reads and checks all inputs before it answers


class RunOptions(TypedDict, total=False):
    """What may be said about a run beside its workflow and its inputs."""

    params: Mapping[str, Any] | None
    """Values for the workflow's `params`."""
    name: str | None
    """A name for people."""
    metadata: Mapping[str, str] | None
    """Whatever the caller wants to find again."""
    priority: int | None
    """Larger is served first."""
    seed: int | None
    """Decides all chances: the same seed gives the same answers."""
    use_cache: bool | None
    """Whether answers of earlier runs may stand for equal requests; they do unless told."""
    output: str | Path | None
    """What receives `<run_id>/rows`: a directory of the server's machine."""
    idempotency_key: str | None
    """The same key never makes a second run; made up if left out."""


def run_workflow(
    workflow: Specified,
    inputs: Mapping[str, Upload | Remote],
    options: RunOptions,
    retry: RetryPolicy,
) -> Talk[RunRecord]:
    """Send the rows and what to do with them; returns when the server has them on disk.

    One file goes with the request; where there are more, the others are kept as files meanwhile.
    """
    unknown = set(options) - set(RunOptions.__annotations__)
    if unknown:
        known = ", ".join(RunOptions.__annotations__)
        raise TypeError(f"unknown option {min(unknown)!r} for a run; there are {known}")
    body = {key: value for key, value in options.items() if value is not None}
    key = in_header("idempotency_key", str(body.pop("idempotency_key", None) or uuid4().hex))
    if "params" in body:
        body["params"] = plain(body["params"], "params")
    if "output" in body:
        body["output"] = {"path": str(body["output"])}  # the server's, so not ours to resolve
    body["workflow"] = workflow
    body["inputs"] = {
        name: {"path": rows.url} for name, rows in inputs.items() if isinstance(rows, Remote)
    }
    uploads = [(name, rows) for name, rows in inputs.items() if isinstance(rows, Upload)]
    kept: list[str] = []
    for name, upload in uploads[:-1]:
        kept.append((yield from _keep_file(upload, retry)))
        body["inputs"][name] = {"file_id": kept[-1]}
    if uploads:
        body["upload"] = uploads[-1][0]
    send = Send(
        "POST",
        _RUNS,
        headers={"Idempotency-Key": str(key)},
        body=body,
        upload=uploads[-1][1] if uploads else None,
        read_timeout_s=_SEALING_S,
    )
    run = yield from ask(send, retry, _read_run)
    for file_id in kept:  # the run has a copy of its own
        yield from ask(Send("DELETE", path_to("files", file_id)), retry, lambda response: None)
    return run


def _keep_file(upload: Upload, retry: RetryPolicy) -> Talk[str]:
    send = Send(
        "POST",
        "/v1/files",
        upload=upload,
        form=_KEPT,
        read_timeout_s=_SEALING_S,
    )
    return (yield from ask(send, retry, lambda response: response.json()["id"]))


def get_run(run_id: str, retry: RetryPolicy) -> Talk[RunRecord]:
    """Look at a run once."""
    return (yield from ask(Send("GET", run_path(run_id)), retry, _read_run))


def list_runs(
    limit: int, after: str | None, retry: RetryPolicy, *, status: str | Sequence[str] = ()
) -> Talk[list[RunRecord]]:
    """List runs, newest first; with `status`, only those in one of these states."""
    params: dict[str, str | int | float | list[str]] = {"limit": limit}
    params |= {"after": after} if after else {}
    params |= {"status": [status] if isinstance(status, str) else list(status)} if status else {}
    runs = yield from ask(Send("GET", _RUNS, params=params), retry, read_list)
    return [RunRecord.from_json(run) for run in runs]


def steer_run(run_id: str, verb: str, retry: RetryPolicy) -> Talk[RunRecord]:
    """Say `pause`, `resume` or `cancel` to a run."""
    return (yield from ask(post(run_path(run_id, verb)), retry, _read_run))


class RunChanges(TypedDict, total=False):
    """What can be changed about a run; None takes a name away."""

    name: str | None
    """A name for people."""
    priority: int
    """Larger is served first."""
    metadata: Mapping[str, str]
    """Replaces what there was."""


def change_run(run_id: str, changes: RunChanges, retry: RetryPolicy) -> Talk[RunRecord]:
    """Change a run; it acts at once."""
    unknown = set(changes) - set(RunChanges.__annotations__)
    if unknown:
        known = ", ".join(RunChanges.__annotations__)
        raise TypeError(f"{min(unknown)!r} of a run cannot be changed; these can: {known}")
    send = Send("PATCH", run_path(run_id), body=dict(changes))
    return (yield from ask(send, retry, _read_run))


def retry_run(run_id: str, retry: RetryPolicy) -> Talk[RunRecord]:
    """Run again what failed of a run that has ended."""
    send = Send("POST", run_path(run_id, "retry"), body={}, read_timeout_s=_SEALING_S)
    return (yield from ask(send, retry, _read_run))


def delete_run(run_id: str, retry: RetryPolicy) -> Talk[None]:
    """Remove a run that has ended, and all its rows."""
    yield from ask(Send("DELETE", run_path(run_id)), retry, lambda response: None)


def wait_for_run(
    run_id: str,
    retry: RetryPolicy,
    *,
    timeout_s: float | None = None,
    through_pauses: bool = False,
    on_run: OnRun = lambda run: None,
) -> Talk[RunRecord]:
    """Look at a run until it has ended.

    Raises:
        WaitTimedOut: the time is up; the run goes on, or pauses.
        JobPaused: it stands still until somebody resumes it, unless that is to be waited for.
    """

    def told(run: RunRecord) -> None:
        on_run(run)
        if run.status is JobState.PAUSED and not through_pauses:
            raise JobPaused(
                f"run {run_id} pauses ({run.status_reason or 'somebody has paused it'}): resume "
                "it, or wait with through_pauses=True",
                run_id,
            )

    return (
        yield from wait_for_end(
            run_path(run_id),
            _read_run,
            retry,
            timeout_s=timeout_s,
            on_look=told,
            how_it_goes_on=lambda run: (
                f"run {run_id} has not ended after {timeout_s:g} s; it is "
                + (f"{run.status} ({run.status_reason})" if run and run.status_reason else "at it")
            ),
        )
    )


def trace_row(run_id: str, row_id: str, retry: RetryPolicy) -> Talk[list[dict[str, Any]]]:
    """Fetch the history of a row: what each step asked, was answered, and made of it."""
    send = Send("GET", run_path(run_id, "rows"), params={"row_id": row_id})
    return (yield from ask(send, retry, lambda response: response.json()["steps"]))


def open_run_events(run_id: str, last_id: str | None, retry: RetryPolicy) -> Talk[httpx2.Response]:
    """Open the stream of a run's events, behind the last one seen."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    send = Send("GET", run_path(run_id, "events"), headers=headers, stream=True)
    return (yield from ask(send, retry, lambda response: response))


def run_path(run_id: str, *names: str) -> str:
    """Name what belongs to a run."""
    return path_to("workflows", "runs", run_id, *names)


def _read_run(response: httpx2.Response) -> RunRecord:
    return RunRecord.from_json(response.json())
