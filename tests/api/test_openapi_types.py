"""Our raw JSON against the types that OpenAI publishes, those of its own client, taken strictly:
nothing that they require is missing, nothing is there that they do not know, but for `OURS`.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai.types import (
    Batch,
    Completion,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
    Upload,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject
from openai.types.uploads import UploadPart
from openai.types.webhooks import (
    DeletedWebhookEndpoint,
    WebhookEndpoint,
    WebhookEndpointTestResult,
    WebhookEventTypeList,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

from penstock.jobs.fake_engine import SAY

from .conftest import MODEL
from .test_chat_tools import PARIS, WEATHER
from .test_webhooks import receiver

# What we tell beside what OpenAI tells.
OURS = {
    Model: {"max_model_len", "workers"},
    Batch: {"penstock"},
    Response: {"store"},  # OpenAI's server tells it too, its types do not
    ResponseStreamEvent: {"response.store"},
}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CALL = {**CHAT, "messages": [{"role": "user", "content": SAY + "So: " + PARIS}], "tools": [WEATHER]}
RESPOND = {"model": MODEL, "input": "hi"}
RESPOND_CALL = {
    "model": MODEL,
    "input": SAY + "So: " + PARIS,
    "tools": [{"type": "function", **WEATHER["function"], "strict": True}],
}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def strangers(value: Any, at: str = "") -> Iterator[str]:
    """Name the fields, however deep they stand, that the types do not know."""
    if isinstance(value, BaseModel):
        yield from (at + name for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from strangers(getattr(value, name), f"{at}{name}.")
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strangers(item, at)


def check(told: Any, kind: Any) -> None:
    value = TypeAdapter(kind).validate_python(told)
    assert set(strangers(value)) <= OURS.get(kind, set()), told


def post(http: httpx2.Client, path: str, body: dict[str, Any]) -> httpx2.Response:
    answer = http.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def keep(http: httpx2.Client, line: bytes) -> dict[str, Any]:
    return http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", line)}).json()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("chat/completions", CHAT, ChatCompletion),
        ("chat/completions", {**CHAT, "n": 2, "service_tier": "flex"}, ChatCompletion),
        ("chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}, ChatCompletion),
        ("chat/completions", {**CHAT, "max_tokens": 2}, ChatCompletion),
        ("chat/completions", CALL, ChatCompletion),
        ("completions", {"model": MODEL, "prompt": ["hi", "ho"]}, Completion),
        ("completions", {"model": MODEL, "prompt": "hi", "logprobs": 2}, Completion),
        ("embeddings", {"model": MODEL, "input": ["hi", "ho"]}, CreateEmbeddingResponse),
        ("responses", {**RESPOND, "metadata": {"a": "b"}}, Response),
        ("responses", {**RESPOND, "max_output_tokens": 2, "background": True}, Response),
        ("responses", RESPOND_CALL, Response),
    ],
)
def test_answers(http: httpx2.Client, path: str, body: dict[str, Any], kind: Any) -> None:
    check(post(http, path, body).json(), kind)


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("chat/completions", {**CHAT, **USAGE}, ChatCompletionChunk),
        ("chat/completions", {**CHAT, **USAGE, "logprobs": True}, ChatCompletionChunk),
        ("chat/completions", {**CALL, **USAGE}, ChatCompletionChunk),
        ("completions", {"model": MODEL, "prompt": "hi", "logprobs": 1, **USAGE}, Completion),
        ("responses", {**RESPOND, "stream": True}, ResponseStreamEvent),
        ("responses", {**RESPOND_CALL, "stream": True}, ResponseStreamEvent),
    ],
)
def test_streams(http: httpx2.Client, path: str, body: dict[str, Any], kind: Any) -> None:
    lines = post(http, path, body).text.splitlines()
    frames = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert len(frames) > 2
    for told in frames:
        if kind is Completion:  # whose type is that of whole ones: until the end it says null
            for choice in told["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        check(told, kind)


def test_models(http: httpx2.Client) -> None:
    listed = http.get("/v1/models").json()["data"]
    assert MODEL in [each["id"] for each in listed]
    for told in (*listed, http.get(f"/v1/models/{MODEL}").json()):
        check(told, Model)


def test_files_and_uploads(http: httpx2.Client) -> None:
    file = keep(http, b"x")
    check(file, FileObject)
    check(http.get(f"/v1/files/{file['id']}").json(), FileObject)
    check(http.delete(f"/v1/files/{file['id']}").json(), FileDeleted)
    wish = {"bytes": 1, "filename": "a", "mime_type": "text/jsonl", "purpose": "batch"}
    upload = post(http, "uploads", wish).json()
    check(upload, Upload)
    part = http.post(f"/v1/uploads/{upload['id']}/parts", files={"data": b"x"}).json()
    check(part, UploadPart)
    done = post(http, f"uploads/{upload['id']}/complete", {"part_ids": [part["id"]]}).json()
    check(done, Upload)
    check(
        http.post(f"/v1/uploads/{post(http, 'uploads', wish).json()['id']}/cancel").json(), Upload
    )
    http.delete(f"/v1/files/{done['file']['id']}")


@pytest.mark.parametrize("is_good", [True, False])
def test_batches_all_their_life(http: httpx2.Client, is_good: bool) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    file = keep(http, json.dumps(line if is_good else {**line, "custom_id": 1}).encode())
    wish = {"endpoint": line["url"], "completion_window": "24h", "metadata": {"a": "b"}}
    batch = post(http, "batches", {**wish, "input_file_id": file["id"]}).json()
    deadline_s = time.monotonic() + 60
    while batch["status"] not in ("completed", "failed"):
        check(batch, Batch)
        assert time.monotonic() < deadline_s, batch
        time.sleep(0.05)
        batch = http.get(f"/v1/batches/{batch['id']}").json()
    check(batch, Batch)
    assert batch["status"] == ("completed" if is_good else "failed")
    http.delete(f"/v1/files/{file['id']}")


def test_webhook_endpoints(http: httpx2.Client) -> None:
    check(http.get("/v1/webhook_event_types").json(), WebhookEventTypeList)
    with receiver() as (url, _):
        wish = {"name": "a", "url": url, "event_types": ["batch.completed"]}
        made = post(http, "webhook_endpoints", wish).json()
        sample = {"event_type": "batch.completed"}
        path = f"webhook_endpoints/{made['id']}/test"
        check(post(http, path, sample).json(), WebhookEndpointTestResult)
    check({name: made[name] for name in made if name != "signing_secret"}, WebhookEndpoint)
    check(http.get(f"/v1/webhook_endpoints/{made['id']}").json(), WebhookEndpoint)
    check(http.delete(f"/v1/webhook_endpoints/{made['id']}").json(), DeletedWebhookEndpoint)


@pytest.mark.parametrize("path", ["models/x", "files/x", "batches/x", "responses/x", "nothing"])
def test_refusals(http: httpx2.Client, path: str) -> None:
    told = http.get(f"/v1/{path}").json()
    assert set(told) == {"error"}
    check(told["error"], ErrorObject)


def test_lists(http: httpx2.Client) -> None:
    for path in ("files", "batches", "webhook_endpoints"):
        page = http.get(f"/v1/{path}").json()
        assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}


def test_the_check_sees_what_is_missing_and_what_is_strange() -> None:
    model = {"id": "m", "object": "model", "created": 1, "owned_by": "us"}
    check(model, Model)
    with pytest.raises(AssertionError):
        check({**model, "made_up": 1}, Model)
    with pytest.raises(ValidationError):
        check({name: model[name] for name in ("id", "object", "created")}, Model)
