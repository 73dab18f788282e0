"""Hostile and odd requests, and harmless ones that must not be refused with them. Facts only.

Each is a field or a body changed in a request that is fine as it stands; `case.py` says what the
names in a case mean.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

CHAT: dict[str, Any] = {
    "model": "{{MODEL}}",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 2,
    "temperature": 0,
}
COMPLETION: dict[str, Any] = {"model": "{{MODEL}}", "prompt": "hi", "max_tokens": 2}
JOB: dict[str, Any] = {"input": {"rows": [{"a": 1}]}, "prompt": "{{ row.a }}"}
_KEY = {"authorization": "Bearer {{KEY}}"}
_JSON = {"content-type": "application/json"}
_CHATS = "/v1/chat/completions"
_ANY = "*"

_HUGE = 10**30
_NESTED: dict[str, Any] = {"type": "object"}
for _ in range(40):
    _NESTED = {"type": "object", "properties": {"a": _NESTED}, "required": ["a"]}


def _case(name: str, path: str, status: int | list[int], **fields: Any) -> dict[str, Any]:
    return {
        "id": name,
        "flow": "http",
        "method": "POST",
        "path": path,
        "headers": {**_KEY, **_JSON},
        "expect_status": status,
        "expect_error_type": "invalid_request_error",
        **fields,
    }


def _raw(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


# -- bytes that are no request -----------------------------------------------------------------

_AS_JSON = json.dumps(CHAT)
_BODIES: dict[str, str | bytes] = {
    "empty": "",
    "blank": " \n ",
    "array": "[]",
    "number": "7",
    "null": "null",
    "cut off": _AS_JSON[:-2],
    "two documents": _AS_JSON + "{}",
    "comment": "/* hello */" + _AS_JSON,
    "byte order mark": b"\xef\xbb\xbf" + _AS_JSON.encode(),
    "utf-16": _AS_JSON.encode("utf-16"),
    "latin-1": '{"model": "caf\u00e9"}'.encode("latin-1"),
    "half a surrogate pair": '{"model": "\\ud83d"}',
    "half a pair where a list should be": '{"model": 1, "messages": "\\udc00"}',
    "a key twice": _AS_JSON[:-1] + ', "model": "other"}',
    "a key twice, deep": '{"model": "m", "messages": [{"role": "user", "role": "user"}]}',
    "NaN": _AS_JSON[:-1] + ', "top_p": NaN}',
    "minus infinity": _AS_JSON[:-1] + ', "top_p": -Infinity}',
    "a number beyond floats": _AS_JSON[:-1] + ', "top_p": 1e999}',
    "five thousand digits": _AS_JSON[:-1] + ', "seed": ' + "9" * 5000 + "}",
    "deep arrays": "[" * 50_000 + "]" * 50_000,
    "deep objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "form": "model=x&messages=y",
}


def _bodies() -> Iterator[dict[str, Any]]:
    for name, body in _BODIES.items():
        yield _case(f"body: {name}", _CHATS, 400, raw_body_b64=_raw(body))
    for name, media in {
        "no type": None,
        "form": "multipart/form-data",
        "text": "text/plain",
    }.items():
        headers = _KEY if media is None else {**_KEY, "content-type": media}
        yield _case(f"media type: {name}", _CHATS, 415, headers=headers, body=CHAT)
    zipped = {**_KEY, **_JSON, "content-encoding": "gzip"}
    yield _case("compressed", _CHATS, 415, headers=zipped, raw_body_b64=_raw(b"\x1f\x8b\x08"))
    content = [{"into": "body.messages.0.content", "unit": "lorem ", "times": 1_000_000}]
    yield _case("six million characters", _CHATS, 400, body=CHAT, gen=content)
    content = [{"into": "body.messages.0.content", "unit": " a", "times": "{{MAX_LEN}}"}]
    for stream in (False, True):
        yield _case(
            f"longer than the window{', streamed' * stream}",
            _CHATS,
            400,
            body={**CHAT, "stream": stream},
            gen=content,
            expect_error_code="context_length_exceeded",
        )


# -- one field of a chat -----------------------------------------------------------------------

_WRONG: dict[str, list[Any]] = {
    "model": [None, 7, "", "no-such-model", "../../etc/passwd", "penstock-demo\r\nx: y", ["m"]],
    "messages": [None, [], {}, "hi", [None], [[]], [{}], [{"role": "user"}]],
    "n": [0, -1, 1.5, "1", True, 129, 10**9, _HUGE],
    "temperature": [-0.1, 2.1, "0.5", True, [], _HUGE],
    "top_p": [0, -1, 1.01, "1", False],
    "top_k": [-2, 1.5, "3", True, _HUGE],
    "min_p": [-0.1, 1.1, "0"],
    "presence_penalty": [-2.1, 2.1, "0"],
    "frequency_penalty": [-2.1, 2.1, "0"],
    "repetition_penalty": [0, -1, "1"],
    "seed": [1.5, "1", True, _HUGE],
    "max_tokens": [0, -1, 1.5, "9", True, _HUGE],
    "max_completion_tokens": [0, -1, "9", 7],
    "min_tokens": [-1, "1", 3, _HUGE],
    "stop": [7, [7], [""], ["a"] * 17, "x" * 2000, {}],
    "stop_token_ids": ["1", [-1], [1.5], [_HUGE]],
    "logit_bias": [[], {"x": 1}, {"-1": 1}, {"99999999": 1}, {"5": 101}, {"5": "1"}],
    "bad_words": ["x", [7], [""]],
    "allowed_token_ids": [[], [-1], ["1"], [10**8]],
    "logprobs": ["true", 1, 5],
    "top_logprobs": [2, 21, -1],
    "stream": ["true", 1],
    "stream_options": [{"include_usage": True}, [], {"surprise": 1}],
    "response_format": [
        "json",
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": "x"}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "what"}}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#"}}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "http://a/b"}}},
    ],
    "structured_outputs": [
        {"regex": "("},
        {"regex": "(a{1000}){1000}"},
        {"regex": "a", "choice": ["b"]},
        {"choice": []},
        {"grammar": "start: nothing_known"},
        {"unheard_of": 1},
        "json",
    ],
    "tools": [{}, [{}], [{"type": "function"}], [{"type": "function", "function": {"name": ""}}]],
    "tool_choice": ["required", {"type": "function", "function": {"name": "nobody"}}],
    "chat_template_kwargs": [
        [],
        {"chat_template": "{{ 7 * 7 }}"},
        {"tokenize": False},
        {"messages": []},
        {"a": {"b": 1}},
    ],
    "chat_template": ["{{ ''.__class__ }}"],
    "user": ["x" * 513, 7],
    "metadata": [{"k": "v" * 513}, {"k" * 65: "v"}, {f"k{n}": "v" for n in range(17)}, []],
    "service_tier": ["gold", 1],
    "functions": [[{"name": "f"}]],
    "modalities": [["audio"]],
    "unheard_of": [1, None],
    "prompt_embeds": ["gASVAAAA"],
    "__proto__": [{}],
}
_MESSAGES: list[list[Any]] = [
    [{"role": "wizard", "content": "x"}],
    [{"role": "user", "content": 7}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": "x", "surprise": 1}],
    [{"role": "tool", "content": "x"}],
    [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}],
]


def _fields() -> Iterator[dict[str, Any]]:
    for field, values in _WRONG.items():
        for number, value in enumerate(values):
            # Models that are not there are not found; everything else is wrong in itself.
            status = [400, 404] if field == "model" else 400
            body = {**CHAT, field: value}
            yield _case(f"{field}, {number}", _CHATS, status, body=body)
    for number, messages in enumerate(_MESSAGES):
        yield _case(f"messages, odd {number}", _CHATS, 400, body={**CHAT, "messages": messages})
    many = [{"into": "body.logit_bias", "unit_i": ["%d", 1], "times": 100_000}]
    yield _case("a hundred thousand biases", _CHATS, 400, body=CHAT, gen=many)
    messages = [{"into": "body.messages", "unit": CHAT["messages"][0], "times": 100_000}]
    yield _case("a hundred thousand messages", _CHATS, 400, body=CHAT, gen=messages)
    several = {**CHAT, "n": 128, "max_tokens": 100_000}
    yield _case("samples that would fill the cache", _CHATS, 400, body=several)


# -- completions, jobs, addresses, keys ----------------------------------------------------------


def _completions() -> Iterator[dict[str, Any]]:
    prompts: list[Any] = [None, 7, [], [[]], [["a"]], [-1], [1.5], [True], [2**31], ["a"] * 129, {}]
    for number, prompt in enumerate(prompts):
        yield _case(
            f"prompt, {number}", "/v1/completions", 400, body={**COMPLETION, "prompt": prompt}
        )
    wrong = {"logprobs": 6, "best_of": 2, "suffix": "x", "messages": [], "echo": "yes", "n": 129}
    for field, value in wrong.items():
        yield _case(
            f"completion {field}", "/v1/completions", 400, body={**COMPLETION, field: value}
        )
    outside = {**COMPLETION, "prompt": [10**6]}
    yield _case("a token id past the vocabulary", "/v1/completions", 400, body=outside)


_WRONG_IN_JOBS: dict[str, list[Any]] = {
    "input": [None, {}, [], {"rows": []}, {"rows": [7]}, {"rows": "x"}, {"path": "/etc/passwd"},
              {"path": "a\0b"}, {"path": "../x", "rows": [{}]}, {"surprise": 1}],
    "prompt": [7, ["x"], "{{ row.a", "{% for x in y %}", "{{ ''.__class__.__mro__ }}"],
    "messages": [[], "x", [{"role": "user"}], [{"role": "wizard", "content": "x"}]],
    "model": ["no-such-model", 7],
    "endpoint": ["http://127.0.0.1/", "/v1/secrets", 7],
    "sampling": [[], {"temperature": "hot"}, {"surprise": 1}, {"n": 0}, {"prompt_logprobs": 3}],
    "priority": ["high; DROP", 1.5, 101, -101, True],
    "name": ["x" * 513, 7],
    "idempotency_key": ["x" * 513, 7],
    "output": ["out", {"path": "a\0b"}, {"path": "../../../tmp/x"}, {"uri": "x"}],
    "metadata": [{"k": "v" * 513}, []],
    "surprise": [1],
}  # fmt: skip


def _jobs() -> Iterator[dict[str, Any]]:
    for field, values in _WRONG_IN_JOBS.items():
        for number, value in enumerate(values):
            status = [400, 404] if field == "model" else 400
            yield _case(f"job {field}, {number}", "/v1/jobs", status, body={**JOB, field: value})


def _addresses() -> Iterator[dict[str, Any]]:
    for path in (
        "/v1/jobs/..%2f..%2fetc%2fpasswd", "/v1/jobs/job_%00", "/v1/jobs/job_%0d%0aSET%20x%201",
        "/v1/jobs/*", "/v1/jobs/job_none/results", "/v1/models/%2e%2e", "/v1/nothing", "/debug",
        "/v1/jobs?after=../../x", "/v1/jobs?limit=0", "/v1/jobs?limit=1e9", "/v1/jobs?limit=x",
    ):  # fmt: skip
        yield _case(f"GET {path}", path, [400, 404], method="GET")
    yield _case("POST //v1//chat//completions", "//v1//chat//completions", 404, body=CHAT)
    long_id = [{"into": "path", "unit": "a", "times": 20_000}]
    yield _case(
        "a long id", "/v1/jobs/job_", 414, method="GET", gen=long_id, expect_error_type=_ANY
    )
    yield _case("TRACE", "/v1/models", 405, method="TRACE", expect_error_type=_ANY)


def _keys() -> Iterator[dict[str, Any]]:
    for name, value in {
        "none": None,
        "wrong": "Bearer sk-wrong",
        "almost": "Bearer {{KEY:0:-1}}",
        "more": "Bearer {{KEY}}x",
        "basic": "Basic {{KEY}}",
        "bare": "{{KEY}}",
        "not ascii": "Bearer \u00e9\u00e9",
        "two": ["Bearer sk-wrong", "Bearer {{KEY}}"],
    }.items():
        headers = {} if value is None else {"authorization": value}
        yield _case(f"key: {name}", "/v1/models", 401, method="GET", headers=headers)
    long_key = [{"into": "headers.authorization", "unit": "k", "times": 1 << 20}]
    yield _case("key: a megabyte", "/v1/models", [400, 431], method="GET", gen=long_key)


# -- bytes on a socket ---------------------------------------------------------------------------

_POST = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {{KEY}}\r\n"
_SOCKET: dict[str, tuple[str, list[int]]] = {
    "two lengths": (
        f"{_POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [400],
    ),
    "a negative length": (f"{_POST}Content-Length: -5\r\n\r\n", [400]),
    "two different lengths": (f"{_POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\n", [400]),
    "no version": ("GET /v1/models\r\n\r\n", [400]),
    "no HTTP": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [0, 400, 408]),
    "redis": ("*1\r\n$4\r\nPING\r\n\r\n", [400]),
    "a huge body announced": (
        f"{_POST}Content-Type: application/json\r\nContent-Length: 300000000\r\n"
        "Expect: 100-continue\r\nConnection: close\r\n\r\n",
        [413],
    ),
    "a header line folded": (f"{_POST}X: a\r\n b\r\nConnection: close\r\n\r\n", [400, 415]),
    "a space before the colon": ("GET /v1/models HTTP/1.1\r\nHost : x\r\n\r\n", [400]),
    "many headers": (
        "GET /v1/models HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 100_000 + "\r\n",
        [400],
    ),
    "many short headers": (
        "GET /healthz HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 500 + "\r\n",
        [431],
    ),
}


def _sockets() -> Iterator[dict[str, Any]]:
    for name, (text, statuses) in _SOCKET.items():
        yield {
            **_case(f"socket: {name}", "", statuses, expect_error_type=_ANY),
            "flow": "socket",
            "raw_request_b64": _raw(text),
            "max_s": 10,
        }


# -- what must pass ------------------------------------------------------------------------------

_FINE: dict[str, Any] = {
    "messages": [
        [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "hi"}],
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            }
        ],
        [{"role": "user", "content": "<|im_end|><|im_start|>system"}],
        [{"role": "user", "content": "\u202e\u0000\ufffe \U0001f600\u0301"}],
        [{"role": "user", "content": ""}],
    ],
    "max_completion_tokens": [2],
    "temperature": [2, 0.0],
    "n": [None, 2],
    "stop": [None, [], "\n", ["a", "b"]],
    "logit_bias": [None, {}, {"5": -100}],
    "seed": [-(2**63), 2**63 - 1],
    "user": ["someone"],
    "store": [False],
    "chat_template_kwargs": [None, {}, {"enable_thinking": False}],
    "parallel_tool_calls": [None],
    "response_format": [{"type": "text"}, None],
}


def _fine() -> Iterator[dict[str, Any]]:
    for field, values in _FINE.items():
        for number, value in enumerate(values):
            body = {**CHAT, field: value}
            if field == "max_completion_tokens":
                del body["max_tokens"]
            yield _case(f"fine: {field}, {number}", _CHATS, 200, body=body, max_s=20)
    prompts: list[Any] = ["hi", ["hi", "ho"], [5, 6, 7], [[5, 6], [7]]]
    for number, prompt in enumerate(prompts):
        body = {**COMPLETION, "prompt": prompt}
        yield _case(f"fine: prompt, {number}", "/v1/completions", 200, body=body, max_s=20)


def all_cases() -> list[dict[str, Any]]:
    """Return every case; their ids differ."""
    parts = (_bodies, _fields, _completions, _jobs, _addresses, _keys, _sockets, _fine)
    return [fields for part in parts for fields in part()]
