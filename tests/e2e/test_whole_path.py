"""The main job, end to end: files in, Parquet out, chats beside it, and a worker killed midway."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import openai
import pyarrow.dataset as ds
import pytest

from penstock import LLM, Client, SamplingParams
from penstock.api import demo_tasks
from penstock.api.client_errors import ApiError

from .stack import Stack, running_stack

ROWS = 2_000
SAMPLING = {"temperature": 0, "max_tokens": 48}


def write_tasks(path: Path, count: int) -> list[demo_tasks.DemoTask]:
    tasks = demo_tasks.load(count, seed=11, split="heldout")
    with path.open("w", encoding="utf-8") as file:
        for index, task in enumerate(tasks):
            file.write(json.dumps({"key": f"t{index}", "ask": task.prompt}) + "\n")
    return tasks


def landed(out: Path, job_id: str) -> list[dict]:
    return ds.dataset(out / job_id / "rows").to_table().to_pylist()


def one_chat(client: openai.OpenAI) -> str:
    stream = client.chat.completions.create(
        model="penstock-demo",
        messages=[{"role": "user", "content": "Add 12 and 30."}],
        temperature=0,
        max_tokens=16,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, finish_reason, usage = "", None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish_reason = choice.finish_reason or finish_reason
    assert finish_reason == "stop"
    assert usage is not None
    assert usage.completion_tokens > 0
    return text


def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", ROWS)
    with (
        running_stack(tmp_path / "data", "--no-flower") as stack,
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as chat,
        Client(stack.url) as client,
    ):
        calm_answer = one_chat(chat)
        job = client.jobs.submit(
            tmp_path / "tasks.jsonl", prompt="{{ row.ask }}", id="key", sampling=SAMPLING
        )
        while job.refresh().counts.succeeded < ROWS // 4:
            assert one_chat(chat) == calm_answer
        [worker] = stack.workers()
        before = job.refresh().counts.succeeded
        assert before < ROWS, "the job ended before the worker could be killed"
        os.killpg(os.getpgid(worker["pid"]), signal.SIGKILL)
        killed_at = time.monotonic()
        while job.refresh().counts.succeeded <= before + 64:  # one shard may have been landing
            assert time.monotonic() - killed_at < 240
            time.sleep(0.1)
        recovery_s = time.monotonic() - killed_at
        print(f"rows flowed again {recovery_s:.1f} s after the kill")
        assert one_chat(chat) == calm_answer
        job.wait(timeout_s=240)
        assert job.status == "completed"
        assert worker["pid"] not in {other["pid"] for other in stack.workers()}
        rows = landed(stack.data / "results", job.id)
    assert Counter(row["row_index"] for row in rows) == Counter(range(ROWS))
    assert {row["custom_id"]: row["ask"] for row in rows} == {
        f"t{index}": task.prompt for index, task in enumerate(tasks)
    }
    assert {row["status"] for row in rows} == {"succeeded"}
    assert (job.counts.total, job.counts.succeeded, job.counts.failed) == (ROWS, ROWS, 0)
    right = sum(
        demo_tasks.is_correct(task, row["output"])
        for task, row in zip(tasks, sorted(rows, key=lambda row: row["row_index"]), strict=True)
        if task.answer is not None
    )
    assert right >= 0.9 * sum(task.answer is not None for task in tasks)


def test_a_landed_row_is_what_the_engine_says_alone(stack: Stack, tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", 40)
    with Client(stack.url) as client:
        job = client.jobs.submit(
            tmp_path / "tasks.jsonl", prompt="{{ row.ask }}", sampling=SAMPLING
        )
        job.wait(timeout_s=240)
        through = [row["output"] for row in job.results()]
    llm = LLM(model="penstock-demo")
    alone = llm.chat(
        [[{"role": "user", "content": task.prompt}] for task in tasks],
        SamplingParams.from_mapping(SAMPLING),
    )
    assert through == [out.outputs[0].text for out in alone]


def test_a_seed_repeats_a_job_and_leaves_its_rows_different(stack: Stack) -> None:
    rows = [{"ask": "Tell a tiny story about a fox."}] * 8
    sampling = {"temperature": 1.0, "seed": 7, "max_tokens": 24}
    with Client(stack.url) as client:
        jobs = [
            client.jobs.submit(rows, prompt="{{ row.ask }}", sampling=sampling) for _ in range(2)
        ]
        first, second = ([row["output"] for row in job.wait().results()] for job in jobs)
    assert first == second
    assert len(set(first)) > 4


def test_bad_rows_fail_alone_and_bad_lines_are_numbered(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    too_long = "word " * 20_000
    path.write_text(
        '{"id": "a", "ask": "Add 1 and 2."}\n'
        "{broken\n"
        "\n"
        + json.dumps({"id": "b", "ask": too_long})
        + '\n["not", "an", "object"]\n{"id": "c", "ask": "Add 3 and 4."}\n',
        encoding="utf-8",
    )
    with Client(stack.url) as client:
        job = client.jobs.submit(path, prompt="{{ row.ask }}", id="id", sampling=SAMPLING)
        job.wait(timeout_s=240)
        rows = {row["custom_id"]: row for row in job.results()}
        complaints = list(job.errors())
    assert job.status == "completed_with_errors"
    assert {key: row["status"] for key, row in rows.items()} == {
        "a": "succeeded", "b": "failed", "c": "succeeded",
    }  # fmt: skip
    assert rows["b"]["error"]["code"] == "context_length_exceeded"
    assert [line["line"] for line in complaints if "line" in line] == [2, 5]


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"prompt": "{{ row.missing }}"}, "missing"),
        ({"sampling": {"temperature": -1}}, "temperature must be from 0 to 2, got -1"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"prompt": "{{ row.ask "}, "template"),
        ({"id": "nope"}, "nope"),
    ],
)
def test_a_bad_job_is_refused_with_the_cause(stack: Stack, change: dict, needle: str) -> None:
    wish = {"prompt": "{{ row.ask }}", "sampling": SAMPLING, **change}
    with Client(stack.url) as client, pytest.raises(ApiError) as caught:
        client.jobs.submit([{"ask": "Add 1 and 1."}], **wish)
    assert needle in str(caught.value)
    assert caught.value.status_code in (400, 404)
