"""Batches by the official client, from upload to answers."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Batch

from penstock.jobs.batch_clerk import BatchClerk
from penstock.jobs.batch_record import Batch as BatchOnDisk, Checked

from .conftest import IDLE_MODEL, MODEL

CHAT = "/v1/chat/completions"
DEEP: dict[str, Any] = {}
for _ in range(70):
    DEEP = {"a": DEEP}


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    messages = {"messages": [{"role": "user", "content": custom_id}]}
    prompt = messages if url == CHAT else {"prompt": custom_id}
    body = {"model": MODEL, **prompt, **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def upload(client: openai.OpenAI, lines: list[Any]) -> str:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch").id


def run(client: openai.OpenAI, lines: list[Any], endpoint: Any = CHAT, **options: Any) -> Batch:
    batch = client.batches.create(
        input_file_id=upload(client, lines),
        endpoint=endpoint,
        completion_window="24h",
        **options,
    )
    return wait(client, batch.id)


def wait(client: openai.OpenAI, batch_id: str) -> Batch:
    deadline = time.monotonic() + 60
    while True:
        batch = client.batches.retrieve(batch_id)
        if batch.status in ("completed", "failed", "cancelled", "expired"):
            return batch
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)


def answers(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    found = [json.loads(each) for each in client.files.content(file_id).text.splitlines()]
    assert len({each["id"] for each in found}) == len(found)
    return {each["custom_id"]: each for each in found}


def test_a_batch_gives_an_answer_for_every_line(client: openai.OpenAI) -> None:
    lines = [line(f"row-{number}") for number in range(70)]
    batch = run(client, lines, metadata={"who": "me"})
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 70, "completed": 70, "failed": 0}
    assert batch.error_file_id is None
    assert batch.metadata == {"who": "me"}
    moments = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert None not in moments
    assert moments == sorted(moments, key=lambda moment: moment or 0)
    found = answers(client, batch.output_file_id)
    assert found.keys() == {each["custom_id"] for each in lines}
    direct = client.chat.completions.create(**lines[3]["body"])
    response = found["row-3"]["response"]
    assert response["status_code"] == 200
    assert response["body"]["choices"][0] == direct.choices[0].to_dict()
    assert response["body"]["object"] == "chat.completion"
    assert batch.usage is not None
    usages = [each["response"]["body"]["usage"] for each in found.values()]
    assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in usages)


def test_completions_and_samples(client: openai.OpenAI) -> None:
    batch = run(client, [line("a", "/v1/completions", n=2)], "/v1/completions")
    [answer] = answers(client, batch.output_file_id).values()
    choices = answer["response"]["body"]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert all(choice["text"] for choice in choices)
    assert answer["response"]["body"]["object"] == "text_completion"


def test_a_bad_row_fails_alone(client: openai.OpenAI) -> None:
    lines = [line("good"), line("bad", temperature=7), line("odd", surprise=1)]
    batch = run(client, lines)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 1, "failed": 2}
    assert answers(client, batch.output_file_id).keys() == {"good"}
    refused = answers(client, batch.error_file_id)
    assert refused.keys() == {"bad", "odd"}
    response = refused["bad"]["response"]
    assert response["status_code"] == 400
    assert response["body"]["error"]["param"] == "temperature"
    assert refused["bad"]["error"] is None


def test_when_all_rows_fail_there_is_no_output(client: openai.OpenAI) -> None:
    batch = run(client, [line("bad", temperature=7)])
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert answers(client, batch.error_file_id).keys() == {"bad"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["", "  "], [("empty_file", None)]),
        ([line("a"), "{oops", line("a")], [("invalid_json_line", 2), ("duplicate_custom_id", 3)]),
        ([json.dumps(line("a"))[:-9]], [("invalid_json_line", 1)]),
        (
            ['{"custom_id": "a", "custom_id": "b"}', "[]"],
            [("invalid_json_line", n) for n in (1, 2)],
        ),
        ([{**line("a"), "url": "/v1/embeddings"}], [("invalid_url", 1)]),
        ([{**line("a"), "url": "http://127.0.0.1:6379/"}], [("invalid_url", 1)]),
        ([{**line("a"), "method": "GET"}], [("invalid_method", 1)]),
        ([{**line("a"), "custom_id": 5}], [("invalid_type", 1)]),
        ([line("x" * 100_000)], [("invalid_value", 1)]),
        ([{"custom_id": "a"}], [("missing_required_parameter", 1)]),
        ([line("a", stream=True)], [("streaming_unsupported", 1)]),
        ([line("a", model="gpt-none")], [("model_not_found", 1)]),
        ([line("a", model=None)], [("missing_required_parameter", 1)]),
        (['{"custom_id": "\\ud800"}'], [("invalid_json_line", 1)]),
        ([line("a", metadata=DEEP)], [("invalid_json_line", 1)]),
        (
            [json.dumps(line("a", temperature=0)).replace(": 0}", ": 1e999}")],
            [("invalid_json_line", 1)],
        ),
    ],
)
def test_all_bad_lines_are_told(
    client: openai.OpenAI, lines: list[Any], expected: list[tuple[str, int | None]]
) -> None:
    batch = run(client, lines or [""])
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or []] == expected
    assert batch.output_file_id is None


def test_a_batch_may_name_several_models(client: openai.OpenAI) -> None:
    file_id = upload(client, [line("a"), line("b", model=IDLE_MODEL), line("c")])
    batch = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    deadline = time.monotonic() + 60
    while batch.request_counts is None or batch.request_counts.completed < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "in_progress"  # nobody serves the other model
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = wait(client, batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at is not None
    assert answers(client, batch.output_file_id).keys() == {"a", "c"}
    left = answers(client, batch.error_file_id)
    assert left["b"]["response"] is None
    assert left["b"]["error"]["code"] == "batch_cancelled"
    assert client.batches.cancel(batch.id).status == "cancelled"  # it is no fault to say it twice


def test_a_window_that_ends_keeps_what_was_answered(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow day its lines are read when it is over already.
    monkeypatch.setattr("penstock.jobs.submit_request.check_deadline", lambda deadline_ms: None)
    file_id = upload(client, [line("a"), line("b", model=IDLE_MODEL)])
    batch = client.batches.create(
        input_file_id=file_id,
        endpoint=CHAT,
        completion_window="3s",  # pyright: ignore[reportArgumentType] # more than OpenAI offers
    )
    batch = wait(client, batch.id)
    assert batch.status == "expired"
    assert batch.expired_at is not None
    left = answers(client, batch.error_file_id)
    assert left["b"]["error"]["code"] == "batch_expired"


def test_what_is_completed_cannot_be_cancelled(client: openai.OpenAI) -> None:
    batch = run(client, [line("a")])
    with pytest.raises(openai.ConflictError, match="status 'completed'") as refusal:
        client.batches.cancel(batch.id)
    assert refusal.value.response.headers["x-should-retry"] == "false"


def test_batches_are_listed_newest_first(client: openai.OpenAI) -> None:
    made = [run(client, [line("a")]).id for _ in range(3)]
    listed = [batch.id for batch in client.batches.list(limit=2)]
    assert listed[:3] == made[::-1]
    page = client.batches.list(limit=1, after=made[2])
    assert [batch.id for batch in page.data] == [made[1]]
    assert page.has_more


def test_the_same_key_makes_one_batch(client: openai.OpenAI) -> None:
    file_id = upload(client, [line("a")])

    def create(key: str, file: str = file_id) -> str:
        headers = {"idempotency-key": key}
        return client.batches.create(
            input_file_id=file, endpoint=CHAT, completion_window="24h", extra_headers=headers
        ).id

    one, two = create("one"), create("two")
    assert create("one") == one != two
    other = upload(client, [line("b")])
    with pytest.raises(openai.BadRequestError, match="another batch") as refusal:
        create("one", other)
    assert refusal.value.code == "idempotency_key_reused"
    with pytest.raises(openai.BadRequestError, match="differ"):
        client.batches.create(
            input_file_id=file_id,
            endpoint=CHAT,
            completion_window="24h",
            extra_headers={"idempotency-key": "one"},
            extra_body={"idempotency_key": "two"},
        )
    assert [wait(client, each).status for each in (one, two)] == ["completed"] * 2


def test_the_same_key_twice_at_once_makes_one_batch(client: openai.OpenAI) -> None:
    file_id = upload(client, [line("a")])

    def create(_: int) -> str:
        return client.batches.create(
            input_file_id=file_id,
            endpoint=CHAT,
            completion_window="24h",
            extra_headers={"idempotency-key": "at once"},
        ).id

    with ThreadPoolExecutor(8) as pool:
        [made] = {*pool.map(create, range(16))}
    assert wait(client, made).status == "completed"


def test_lines_may_say_more_than_anybody_reads(client: openai.OpenAI) -> None:
    lines = [{**line(f"row-{n}"), f"column-{n}": n} for n in range(1200)]
    batch = run(client, lines)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 1200


def test_the_clients_own_second_try_makes_no_second_batch(
    client: openai.OpenAI, http: httpx2.Client
) -> None:
    body = {"input_file_id": upload(client, [line("a")]), "endpoint": CHAT}
    body["completion_window"] = "24h"

    def create(retry_count: int) -> str:
        headers = {"x-stainless-retry-count": str(retry_count)}
        return http.post("/v1/batches", json=body, headers=headers).json()["id"]

    first = create(0)
    assert create(1) == first
    second = create(0)
    assert second != first
    assert [wait(client, each).status for each in (first, second)] == ["completed"] * 2


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input_file_id": "file-none"}, 404, "file_id"),
        ({"endpoint": "/v1/images/edits"}, 400, "endpoint"),
        ({"endpoint": "http://127.0.0.1/v1/chat/completions"}, 400, "endpoint"),
        ({"completion_window": "banana"}, 400, "completion_window"),
        ({"completion_window": "-1h"}, 400, "completion_window"),
        ({"completion_window": "99999999h"}, 400, "completion_window"),
        ({"completion_window": "31d"}, 400, "completion_window"),
        ({"webhook": "http://169.254.169.254/"}, 400, "webhook"),
        ({"metadata": {"k": "v" * 513}}, 400, "metadata.k"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 10}},
            400,
            "output_expires_after.seconds",
        ),
    ],
)
def test_what_cannot_be_a_batch_is_refused_at_once(
    client: openai.OpenAI, http: httpx2.Client, change: dict[str, Any], status: int, param: str
) -> None:
    body = {"input_file_id": upload(client, [line("a")]), "endpoint": CHAT}
    answer = http.post("/v1/batches", json={**body, "completion_window": "24h", **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_what_came_of_a_batch_is_no_input_of_another(
    client: openai.OpenAI, http: httpx2.Client
) -> None:
    output = run(client, [line("a")]).output_file_id
    body = {"input_file_id": output, "endpoint": CHAT, "completion_window": "24h"}
    answer = http.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_file_id")


@pytest.mark.parametrize("path", ["/v1/batches/batch_none", "/v1/batches/..%2fx"])
def test_unknown_batches_are_not_found(http: httpx2.Client, path: str) -> None:
    assert http.get(path).status_code == 404
    assert http.post("/v1/batches/batch_none/cancel").status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "after=../../x"])
def test_odd_pages_are_refused(http: httpx2.Client, query: str) -> None:
    assert http.get(f"/v1/batches?{query}").status_code == 400


def test_a_file_that_is_being_read_stays(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read, check = threading.Event(), BatchClerk._check

    def check_late(clerk: BatchClerk, batch: BatchOnDisk) -> Checked:
        assert may_read.wait(60)
        return check(clerk, batch)

    monkeypatch.setattr(BatchClerk, "_check", check_late)
    file_id = upload(client, [line("a")])
    batch = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    try:
        with pytest.raises(openai.ConflictError, match=f"is being read by {batch.id}"):
            client.files.delete(file_id)
    finally:
        may_read.set()
    assert wait(client, batch.id).status == "completed"
    assert client.files.delete(file_id).deleted
