"""What is said about workflows. Knows the REST paths and their answers; does no IO (see `talk`).

What is said about their runs is in `run_calls`.
"""

from collections.abc import Mapping
from typing import Any, cast

import httpx2

from .rest_paths import path_to
from .retry_policy import RetryPolicy
from .run_calls import run_path, wait_for_run
from .talk import Send, Talk, ask, read_list
from .workflow import Workflow
from .workflow_trial import AnyInputs, Inputs, Specified, check_names, only_input


def say_inputs(
    workflow: Specified, inputs: AnyInputs, retry: RetryPolicy
) -> Talk[tuple[Specified, Inputs]]:
    """Name the input that rows are of, should nobody have said; what is kept, has to be looked up.

    Raises:
        InvalidInput: there are several inputs, or none; or none of a name that is given.
    """
    if isinstance(inputs, Mapping):
        named = cast("Inputs", inputs)  # a mapping of rows has their names for keys
        if not isinstance(workflow, str):
            check_names(workflow, named)
        return workflow, named
    if isinstance(workflow, str):
        workflow = (yield from get_workflow(workflow, None, retry)).to_dict()
    return workflow, {only_input(workflow): inputs}


def validate(trial: Mapping[str, Any], retry: RetryPolicy) -> Talk[dict[str, Any]]:
    """Have a workflow checked, with the first rows of its inputs."""
    send = Send("POST", "/v1/workflows/validate", body=trial)
    return (yield from ask(send, retry, _read_json))


def preview(trial: Mapping[str, Any], retry: RetryPolicy, *, num_rows: int) -> Talk[dict[str, Any]]:
    """Have the first rows sent through every step, and look at what came of them."""
    body = {**trial, "rows": num_rows, "wait": 0}
    found = yield from ask(Send("POST", "/v1/workflows/preview", body=body), retry, _read_json)
    run_id = found["run"]["id"]
    yield from wait_for_run(run_id, retry)
    return (yield from ask(Send("GET", run_path(run_id, "preview")), retry, _read_json))


def plan(
    trial: Mapping[str, Any],
    counts: Mapping[str, int],
    retry: RetryPolicy,
    *,
    sample_rows: int,
    tokens_per_s: float | None = None,
) -> Talk[dict[str, Any]]:
    """Have rows, tokens and time of each step estimated from a sample."""
    body = {**trial, "sample_rows": sample_rows, "wait": 0}
    found = yield from ask(Send("POST", "/v1/workflows/plan", body=body), retry, _read_json)
    run_id = found["run"]["id"]
    yield from wait_for_run(run_id, retry)
    said: dict[str, Any] = {"num_rows": [f"{name}={count}" for name, count in counts.items()]}
    said |= {} if tokens_per_s is None else {"tokens_per_s": tokens_per_s}
    send = Send("GET", run_path(run_id, "plan"), params=said)
    return (yield from ask(send, retry, _read_json))


def store_workflow(workflow: Specified, retry: RetryPolicy) -> Talk[dict[str, Any]]:
    """Keep a workflow under its name; a change becomes its next version."""
    send = Send("POST", "/v1/workflows", body={"workflow": workflow})
    return (yield from ask(send, retry, _read_json))


def get_workflow(name: str, version: int | None, retry: RetryPolicy) -> Talk[Workflow]:
    """Fetch a workflow that is kept."""
    params = {} if version is None else {"version": version}
    send = Send("GET", path_to("workflows", name), params=params)
    return (yield from ask(send, retry, lambda r: Workflow.from_dict(r.json()["workflow"])))


def list_workflows(retry: RetryPolicy) -> Talk[list[dict[str, Any]]]:
    """List the newest version of each workflow that is kept."""
    return (yield from ask(Send("GET", "/v1/workflows"), retry, read_list))


def forget_workflow(name: str, retry: RetryPolicy) -> Talk[None]:
    """Forget a workflow that is kept, with all its versions."""
    send = Send("DELETE", path_to("workflows", name))
    yield from ask(send, retry, lambda response: None)


def get_schema(retry: RetryPolicy) -> Talk[dict[str, Any]]:
    """Fetch the JSON Schema of specifications."""
    return (yield from ask(Send("GET", "/v1/workflows/schema"), retry, _read_json))


def _read_json(response: httpx2.Response) -> dict[str, Any]:
    return response.json()
