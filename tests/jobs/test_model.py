import time

import msgspec
import pytest

from penstock.jobs.model import (
    EMBED,
    SPEC_VERSION,
    JobSpec,
    JobState,
    Message,
    TaskSpec,
    new_job_id,
    spec_version,
)
from penstock.jobs.tool_use import ToolUse

from .conftest import SpecMaker


def test_ids_are_unique_and_sort_by_time() -> None:
    first = [new_job_id() for _ in range(100)]
    time.sleep(0.002)
    later = new_job_id()
    assert len(set(first)) == 100
    assert all(job_id < later for job_id in first)
    assert len(later) == len("job_") + 26


@pytest.mark.parametrize("state", JobState)
def test_a_state_is_final_or_open_or_waiting(state: JobState) -> None:
    assert not (state.is_final and state.is_open)
    assert state.is_final == (
        state.value in {"completed", "completed_with_errors", "failed", "cancelled", "expired"}
    )


def test_a_spec_survives_json(make_spec: SpecMaker) -> None:
    task = TaskSpec(
        model="m", messages=(Message("user", "{{ row.a }}"),), sampling={"stop": ["a"], "n": 2}
    )
    spec = make_spec(task=task, metadata={"team": "a"}, idempotency_key="k", name="é")
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec


def test_answers_of_a_job_are_not_cut_short_unless_it_says_so() -> None:
    assert TaskSpec(model="m").sampling_params().max_tokens is None
    assert TaskSpec(model="m", sampling={"max_tokens": 5}).sampling_params().max_tokens == 5


@pytest.mark.parametrize(
    ("task", "version"),
    [
        (TaskSpec(model="m", prompt="p", sampling={"max_tokens": 5}), 1),
        (TaskSpec(model="m", prompt="p", response_format={"type": "json_object"}), 2),
        (TaskSpec(model="m", prompt="p", tools=ToolUse(())), 2),
        (TaskSpec(model="m", prompt="p", template_options={"enable_thinking": False}), 2),
        (TaskSpec(model="m", prompt="p", sampling={"structured_outputs": {"json": "{}"}}), 2),
        (TaskSpec(model="m"), 2),  # its column holds requests
        (TaskSpec(model="m", endpoint=EMBED), 3),
        (TaskSpec(model="m", endpoint=EMBED, dimensions=4), 4),
    ],
)
def test_a_spec_has_the_oldest_version_that_says_it(task: TaskSpec, version: int) -> None:
    assert spec_version(task, ["id", "body"]) == version <= SPEC_VERSION
    assert spec_version(TaskSpec(model="m"), ["prompt"]) == 1
    assert spec_version(TaskSpec(model="m"), ["prompt"], has_logprobs=True) == 4
