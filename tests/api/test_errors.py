"""Bad requests: each a 4xx that names what is wrong, in OpenAI's envelope."""

import json
import socket
from collections.abc import Iterator

import httpx2
import openai
import pytest
import redis

from penstock.api.app import create_app
from penstock.api.refusals import refusal_for
from penstock.jobs.interactive import QueueUnavailable

from .conftest import IDLE_MODEL, MODEL, Stack
from .serving import serving

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


def function(**change: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "look", **change}}


def choice(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


TOOL = function()
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def chat(**change: object) -> dict[str, object]:
    return {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, **change}


@pytest.fixture(scope="module")
def named(stack: Stack) -> Iterator[httpx2.Client]:
    """An API of its own that listens under a name."""
    app = create_app(stack.settings, host="gpu.lab.example")
    with serving(app) as url, httpx2.Client(base_url=url, timeout=60) as client:
        yield client


def assert_envelope(answer: httpx2.Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    for leak in ("Traceback", "0x", "site-packages", "/penstock/"):
        assert leak not in answer.text
    if 400 <= answer.status_code < 500:
        assert answer.headers["x-should-retry"] == "false"
    return body["error"]


@pytest.mark.parametrize(
    ("change", "param", "code", "words"),
    [
        ({"foo": 1}, "foo", "unknown_parameter", "unknown parameter: foo"),
        ({"messages": []}, "messages", "empty_array", "messages should have at least 1 item"),
        ({"messages": {"role": "user"}}, "messages", "invalid_type", "valid list"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages.0.role", "invalid_value", ""),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter", ""),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "invalid_type", "5"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            "unsupported_parameter",
            "text only",
        ),
        ({"model": 7}, "model", "invalid_type", "valid string"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value", "must be at least 1, got 0"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type", "1.5"),
        ({"max_tokens": "10"}, "max_tokens", "invalid_type", "'10'"),
        ({"max_tokens": True}, "max_tokens", "invalid_type", "got true"),
        ({"max_tokens": 100_000}, "max_tokens", "context_length_exceeded", "is 100000 tokens"),
        ({"max_tokens": 10**12}, "max_tokens", "context_length_exceeded", "context length"),
        ({"max_completion_tokens": 5}, "max_tokens", "invalid_value", "differ"),
        ({"n": 129}, "n", "invalid_value", "must be at most 128, got 129"),
        ({"n": 1e30}, "n", "invalid_type", ""),
        ({"temperature": 2.1}, "temperature", "invalid_value", "from 0 to 2, got 2.1"),
        ({"temperature": "hot"}, "temperature", "invalid_type", "'hot'"),
        ({"top_p": 0}, "top_p", "invalid_value", "above 0"),
        ({"top_k": -2}, "top_k", "invalid_value", ""),
        ({"min_tokens": 10}, "min_tokens", "invalid_value", "max_tokens=4"),
        ({"seed": "x"}, "seed", "invalid_type", ""),
        ({"seed": 2**70}, "seed", "invalid_value", "at most"),
        ({"top_k": 2**70}, "top_k", "invalid_value", "at most 64 bits, got 1180"),
        ({"seed": -(2**63) - 1}, "seed", "invalid_value", "at most 64 bits"),
        (
            {"tools": [function(parameters={"properties": {"a": {"maximum": 2**64}}})]},
            "tools",
            "invalid_value",
            "at most 64 bits, got 18446744073709551616",
        ),
        ({"chat_template_kwargs": {"a": [[2**64]]}}, "chat_template_kwargs", "invalid_value", ""),
        ({"top_k": 2**63}, "top_k", "invalid_value", "at most 2147483647"),
        ({"stop": 3}, "stop", "invalid_type", ""),
        ({"stop": ["a"] * 17}, "stop", "invalid_value", "at most 16"),
        ({"stop": "s" * 1025}, "stop", "invalid_value", "at most 1024 characters"),
        ({"stop": [""]}, "stop", "invalid_value", "non-empty"),
        ({"stream": "yes"}, "stream", "invalid_type", ""),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value", "stream"),
        ({"top_logprobs": 5}, "top_logprobs", "invalid_value", "logprobs=true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value", "equal to 20"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "invalid_value", "equal to 0"),
        ({"user": "u" * 513}, "user", "string_above_max_length", ""),
        ({"metadata": {f"k{i}": "v" for i in range(17)}}, "metadata", "array_above_max_length", ""),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65, "string_above_max_length", ""),
        ({"tools": [{"type": "function"}]}, "tools", "invalid_value", "must be {"),
        ({"tools": [TOOL, TOOL]}, "tools", "invalid_value", "'look' twice"),
        ({"tools": [{**TOOL, "strict": True}]}, "tools", "invalid_value", ""),
        ({"tools": [function(name="a b")]}, "tools", "invalid_value", "'a b'"),
        ({"tools": [function(code="x")]}, "tools", "invalid_value", "no field 'code'"),
        ({"tools": [function(parameters=[])]}, "tools", "invalid_value", ""),
        ({"tools": [TOOL] * 129}, "tools", "invalid_value", "at most 128"),
        ({"tools": 5}, "tools", "invalid_type", ""),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value", "needs tools"),
        ({"tools": [TOOL], "tool_choice": "some"}, "tool_choice", "invalid_value", "'some'"),
        (
            {"tools": [TOOL], "tool_choice": choice("hear")},
            "tool_choice",
            "invalid_value",
            "'hear'",
        ),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", "invalid_type", ""),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format",
            "invalid_value",
            "must be a JSON Schema",
        ),
        ({"response_format": {"type": "xml"}}, "response_format", "invalid_value", "'xml'"),
        ({"response_format": {"type": "text", "a": 1}}, "response_format", "invalid_value", "'a'"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "response_format",
            "invalid_value",
            "not both",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "invalid_value", "exactly one"),
        ({"structured_outputs": {"xml": 1}}, "structured_outputs", "invalid_value", "'xml'"),
        ({"logit_bias": {"five": 1}}, "logit_bias", "invalid_value", "'five'"),
        ({"logit_bias": {"5": 101}}, "logit_bias", "invalid_value", "logit_bias.5 must be from"),
        ({"logit_bias": {"5": "a"}}, "logit_bias.5", "invalid_type", "logit_bias.5"),
        ({"bad_words": [""]}, "bad_words", "invalid_value", ""),
        ({"repetition_detection": {"a": 1}}, "repetition_detection", "invalid_value", ""),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages.0",
            "invalid_value",
            "call_id",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
            "messages.0",
            "invalid_value",
            "the assistant's",
        ),
        ({"chat_template_kwargs": 1}, "chat_template_kwargs", "invalid_type", ""),
        ({"chat_template": "{{ 7*7 }}"}, "chat_template", "unknown_parameter", ""),
    ],
)
def test_a_bad_chat_names_the_parameter(
    http: httpx2.Client, change: dict, param: str, code: str, words: str
) -> None:
    answer = http.post(CHAT, json=chat(**change))
    error = assert_envelope(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code), error
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_neutral_values_of_what_we_lack_may_pass(http: httpx2.Client) -> None:
    neutral = {
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "logit_bias": {},
        "functions": None,
        "user": "me",
        "metadata": {"k": "v"},
        "store": False,
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "temperature": None,
    }
    assert http.post(CHAT, json=chat(**neutral)).status_code == 200


def test_an_escaped_pair_of_surrogates_is_one_good_character(http: httpx2.Client) -> None:
    body = json.dumps(chat(messages=[{"role": "user", "content": "\U0001f600"}]))
    assert "\\ud83d\\ude00" in body
    answer = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.json()["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'"text"',
        b"[1]",
        json.dumps(chat()).encode() + b"}",
        b"\xef\xbb\xbf" + json.dumps(chat()).encode(),
        json.dumps(chat()).encode("utf-16"),
        b'{"model": "\xff"}',
        json.dumps(chat(temperature=float("nan"))).encode(),
        b'{"model": "a", "model": "b", "messages": []}',
        b'{"model": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_a_body_that_is_not_clean_json_is_refused(http: httpx2.Client, body: bytes) -> None:
    answer = http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert_envelope(answer)
    assert answer.status_code == 400


def test_large_foreign_and_compressed_bodies_are_refused(http: httpx2.Client) -> None:
    large = http.post(CHAT, json=chat(user="x" * (17 << 20)))
    assert (large.status_code, assert_envelope(large)["code"]) == (413, "request_too_large")
    chunked = http.post(
        CHAT, content=iter([b"x" * (1 << 20)] * 18), headers={"content-type": "application/json"}
    )
    assert chunked.status_code == 413
    form = http.post(CHAT, content=b"a=1", headers={"content-type": "text/plain"})
    assert (form.status_code, assert_envelope(form)["code"]) == (415, "unsupported_media_type")
    packed = http.post(
        CHAT,
        content=b"\x1f\x8b",
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert packed.status_code == 415


def test_a_body_must_say_that_it_is_json(http: httpx2.Client) -> None:
    request = http.build_request("POST", CHAT, content=json.dumps(chat()))
    request.headers.pop("content-type", None)
    answer = http.send(request)
    assert (answer.status_code, assert_envelope(answer)["code"]) == (415, "unsupported_media_type")
    utf8 = {"content-type": "application/json; charset=utf-8"}
    assert http.post(CHAT, content=json.dumps(chat()), headers=utf8).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "is_let_in"),
    [
        ("/v1/models", {"host": "rebound.example.com:8100"}, False),
        ("/v1/models", {"host": "127.0.0.1.example.com"}, False),
        ("/v1/models", {"host": "["}, False),
        ("/v1/models", {"host": ""}, False),
        ("/v1/models", {"host": "localhost:8100"}, True),
        ("/v1/models", {"host": "[::1]:8100"}, True),
        ("/v1/models", {"host": "10.1.2.3:8100"}, True),
        ("/v1/models", {"host": "api:8100"}, True),
        ("/v1/models", {"host": "gpu.lab.example:8100"}, True),
        ("/v1/models", {"host": "localhost:1", "origin": "http://localhost:1"}, True),
        ("/v1/models", {"host": "localhost:1", "origin": "http://localhost:2"}, False),
        ("/v1/models", {"origin": "https://example.com"}, False),
        ("/v1/models", {"origin": "null"}, False),
        ("/v1/models", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ("/v1/models", {"sec-fetch-site": "same-origin"}, True),
        ("/docs", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),
        ("/healthz", {"host": "balancer.example.com"}, True),
    ],
)
def test_web_pages_of_elsewhere_are_kept_out_where_no_key_does_it(
    named: httpx2.Client, path: str, headers: dict[str, str], is_let_in: bool
) -> None:
    answer = named.get(path, headers=headers)
    assert answer.status_code == (200 if is_let_in else 403), answer.text
    if not is_let_in:
        assert assert_envelope(answer)["code"] == "foreign_page"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "multipart/form-data"])
def test_a_web_page_can_start_no_job(http: httpx2.Client, stack: Stack, content_type: str) -> None:
    before = set(stack.settings.jobs_dir.glob("*"))
    body = {"model": MODEL, "prompt": "{{ row.text }}", "input": {"path": "/etc/passwd"}}
    answer = http.post(
        "/v1/jobs",
        content=json.dumps(body),
        headers={"content-type": content_type, "origin": "https://example.com"},
    )
    assert (answer.status_code, assert_envelope(answer)["code"]) == (403, "foreign_page")
    assert set(stack.settings.jobs_dir.glob("*")) <= before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nowhere", 404),
        ("POST", "//v1//chat//completions", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/jobs", 405),
        ("GET", "/v1/jobs/job_none", 404),
        ("GET", "/v1/jobs/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/jobs/job_01K3%00%0d%0a", 404),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV", 404),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/results", 404),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/events", 404),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/errors", 404),
        ("POST", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel", 404),
        ("GET", "/v1/jobs?limit=0", 400),
        ("GET", "/v1/jobs?limit=many", 400),
        ("GET", "/v1/jobs?limit=101", 400),
        ("GET", "/v1/workflows/runs?limit=101", 400),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/results?limit=10001", 400),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV?wait=nan", 400),
        ("GET", "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/results?status=odd", 400),
    ],
)
def test_wrong_addresses_and_queries(
    http: httpx2.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path)
    assert_envelope(answer)
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/images/generations"])
def test_what_openai_has_and_we_do_not_is_told_so(http: httpx2.Client, path: str) -> None:
    answer = http.post(path, json={})
    assert answer.status_code == 404
    assert assert_envelope(answer)["message"] == f"POST '{path}' is not offered yet"


def test_an_unknown_model_is_404_and_told_what_there_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=MESSAGES)  # pyright: ignore
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert MODEL in caught.value.message


def test_a_model_without_a_worker_is_503_and_worth_another_try(http: httpx2.Client) -> None:
    answer = http.post(CHAT, json=chat(model=IDLE_MODEL))
    assert (answer.status_code, assert_envelope(answer)["code"]) == (503, "no_worker")
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-should-retry" not in answer.headers


def test_request_ids_are_kept_or_made(http: httpx2.Client) -> None:
    assert (
        http.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    )
    made = http.get("/healthz", headers={"x-request-id": "no spaces please"})
    assert made.headers["x-request-id"].startswith("req_")


def test_a_body_with_two_lengths_is_refused(stack: Stack) -> None:
    host, port = stack.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")


def test_what_the_queue_says_of_its_server_stays_in_the_log() -> None:
    for error in (QueueUnavailable("Error 2 connecting to /run/redis.sock"),
                  redis.ConnectionError("Error 2 connecting to /run/redis.sock")):  # fmt: skip
        refusal = refusal_for(error)
        assert (refusal.status, refusal.code) == (503, "queue_unavailable")
        assert "redis.sock" not in refusal.message


def test_a_value_is_shown_as_it_was_sent(http: httpx2.Client) -> None:
    for value, said in ((None, "null"), (True, "true"), (False, "false"), (7, "7")):
        answer = http.post(CHAT, json={"model": MODEL, "messages": value})
        assert answer.json()["error"]["message"].endswith(f", got {said}")


@pytest.mark.parametrize("what", ["jobs", "files", "batches", "workflows/runs"])
@pytest.mark.parametrize(
    "after", ["nothing", "../run_nope", "a\0b", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"]
)
def test_nothing_comes_behind_what_is_not_in_the_list(
    http: httpx2.Client, what: str, after: str
) -> None:
    answer = http.get(f"/v1/{what}", params={"after": after})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")
