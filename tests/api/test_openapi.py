"""The OpenAPI document holds: a server is asked all that the document allows, and much that it
forbids, and answers as the document says.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from penstock.api.app import create_app
from penstock.api.openapi_examples import (
    EXAMPLES as EXAMPLES_TOLD,
    FILE_ID,
    HOOK_URL,
    MODEL as MODEL_NAMED,
)
from penstock.api.schemas import ChatRequest
from penstock.jobs.model import InvalidSampling, SamplingParams
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings

from .conftest import MODEL, worker_process
from .plain_workflows import WORKFLOW, rows
from .serving import serving

KEY = "sk-openapi-0123456789abcdef"
HEADERS = {"authorization": f"Bearer {KEY}"}
ENDLESS = "GET /v1/overview/events"  # nothing to wait for: see test_overview
EXAMPLES = 12  # of each operation, in each mode

# Left out: `positive_data_acceptance`, since a schema cannot say all that may be wrong with a value
# (its range depends on the model); `ignored_auth`, which wants to send the key by itself and has
# its own test below; what needs a chain of calls, since nothing says which id belongs to which.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]

CONFIG = {
    # Parameters that no operation knows are left aside, as elsewhere on the web.
    "generation": {"allow-extra-parameters": False, "with-security-parameters": False},
    # Any refusal will do: what is too long may be refused for its length.
    "checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}},
}


@pytest.fixture(scope="module")
def url(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data: Path = tmp_path_factory.mktemp("openapi")
    with RedisServer(data / "redis", program=redis_server.program) as own_server:
        settings = Settings(
            data=str(data),
            redis_url=own_server.url,
            models=(MODEL,),
            lease_s=2.0,
            api_key=KEY,
            webhook_hosts=("127.0.0.1",),
        )
        with (
            worker_process(settings, MODEL, data / "worker.log"),
            serving(create_app(settings)) as url,
        ):
            yield url


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, headers=HEADERS, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def document(http: httpx2.Client) -> dict[str, Any]:
    answer = http.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture(scope="module")
def known(http: httpx2.Client) -> dict[str, str]:
    return some_of_each(http)


def some_of_each(http: httpx2.Client) -> dict[str, str]:
    """Make things, so that not all that is asked for is missing."""
    body = {"input": {"rows": [{"n": 1}, {"n": 2}]}, "prompt": "{{ row.n }}", "model": MODEL}
    job = http.post("/v1/jobs", json=body).json()
    http.get(f"/v1/jobs/{job['id']}?wait=30")
    file = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"{}")}).json()
    wish = {"bytes": 1, "filename": "a", "mime_type": "text/jsonl", "purpose": "batch"}
    hook = {"name": "a", "url": "http://127.0.0.1:9/", "event_types": ["batch.failed"]}
    batch = {
        "input_file_id": file["id"],
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    http.post("/v1/workflows", json={"workflow": WORKFLOW})
    run = {"workflow": WORKFLOW["name"], "inputs": {"texts": {"rows": rows(2)}}}
    run_id = http.post("/v1/workflows/runs", json=run).json()["id"]
    while http.get(f"/v1/workflows/runs/{run_id}?wait=30").json()["finished_at"] is None:
        pass  # it waits for a change, which need not be the end
    row = http.get(f"/v1/workflows/runs/{run_id}/results").text.partition("\n")[0]
    return {
        "model": MODEL,
        "name": WORKFLOW["name"],
        "run_id": run_id,
        "row_id": quote(json.loads(row)["row_id"]),
        "step": "said",
        "job_id": job["id"],
        "file_id": file["id"],
        "upload_id": http.post("/v1/uploads", json=wish).json()["id"],
        "batch_id": http.post("/v1/batches", json=batch).json()["id"],
        "endpoint_id": http.post("/v1/webhook_endpoints", json=hook).json()["id"],
        "response_id": http.post("/v1/responses", json={"model": MODEL, "input": "a"}).json()["id"],
        "key_id": http.post("/v1/keys", json={"tenant": "a"}).json()["id"],
    }


def pointed(document: dict[str, Any], known: dict[str, str], mode: GenerationMode) -> Any:
    """Return the document as a schema in which ids and models are such as are there."""

    def narrow(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("in") == "path" and value["name"] in known:
                value["schema"] = {"enum": [known[value["name"]]]}
            fields = value.get("properties", {})
            for name in ("model", "input_file_id", "file_id"):
                if name in fields:
                    fields[name] = {"enum": [known[name.removeprefix("input_")]]}
            for item in value.values():
                narrow(item)
        elif isinstance(value, list):
            for item in value:
                narrow(item)

    narrowed = json.loads(json.dumps(document))
    narrow(narrowed["paths"])
    for name in requests(document):
        narrow(narrowed["components"]["schemas"][name])
    if mode is GenerationMode.POSITIVE:  # of all that may be said, what needs nothing beside it
        narrowed["components"]["schemas"]["ChatMessage"] = {
            "type": "object",
            "properties": {"role": {"enum": ["system", "user"]}, "content": {"type": "string"}},
            "required": ["role", "content"],
            "additionalProperties": False,
        }
    return schemathesis.openapi.from_dict(narrowed, config=SchemathesisConfig.from_dict(CONFIG))


def requests(document: dict[str, Any]) -> set[str]:
    """Name the schemas of bodies in JSON."""
    bodies = [
        operation.get("requestBody", {}).get("content", {}).get("application/json")
        for item in document["paths"].values()
        for operation in item.values()
    ]
    return {body["schema"]["$ref"].rpartition("/")[2] for body in bodies if body}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_answers_as_the_document_says(
    document: dict[str, Any], http: httpx2.Client, mode: GenerationMode
) -> None:
    faults = []
    schema = pointed(document, some_of_each(http), mode)
    found = [each.ok() for each in schema.get_all_operations() if each.ok().label != ENDLESS]
    for operation in sorted(found, key=lambda each: each.method == "delete"):

        @given(operation.as_strategy(mode))
        @hypothesis_settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        def ask(case: schemathesis.Case) -> None:
            response = case.call(base_url=str(http.base_url), headers=HEADERS)
            case.validate_response(response, checks=CHECKS)

        try:
            ask()
        except Unsatisfiable:  # nothing about it can be wrong
            assert not operation.body and not operation.query, operation.label
        except (FailureGroup, Failure) as fault:
            told = getattr(fault, "exceptions", [fault])
            faults.append(f"{operation.label}: {[str(each) for each in told]}")
    assert not faults, "\n\n".join(faults)


def test_it_is_whole(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)))
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references <= schemas
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for _, path, operation in operations(document):
        assert "422" not in operation["responses"], path
        refusals = [told for status, told in operation["responses"].items() if status >= "400"]
        assert refusals
        for told in refusals:
            form = told["content"]["application/json"]["schema"]["$ref"]
            assert form == "#/components/schemas/ErrorEnvelope"


def test_ranges_that_it_tells_are_those_checked() -> None:
    fields = ChatRequest.model_json_schema()["properties"]
    steps = {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0}
    bounds = [
        (name, bound, fields[name][bound])
        for name in ChatRequest.sampling_names
        for bound in steps
        if bound in fields[name]
    ]
    assert len(bounds) > 10
    for name, bound, value in bounds:
        if steps[bound]:
            SamplingParams.from_mapping({name: value})
        with pytest.raises(InvalidSampling):
            SamplingParams.from_mapping({name: value + steps[bound]})


def test_whoever_has_no_key_is_refused_where_it_says_so(document: dict[str, Any], url: str) -> None:
    with httpx2.Client(base_url=url, timeout=60) as stranger:
        for method, path, operation in operations(document):
            status = stranger.request(method.upper(), path).status_code
            assert (status == 401) == bool(operation["security"]), f"{method} {path}: {status}"
            assert str(status) in operation["responses"], f"{method} {path}: {status}"


JOB = {"input": {"rows": [{"n": 1}]}, "prompt": "{{ row.n }}", "model": MODEL}
ASK = [{"role": "user", "content": "hi"}]
INPUTS = {"texts": {"rows": rows(2)}}
GOOD: list[tuple[str, str, Any]] = [
    ("POST", "/v1/jobs", JOB),
    ("GET", "/v1/jobs/{job_id}", None),
    ("GET", "/v1/jobs/{job_id}/results?format=json", None),
    ("GET", "/v1/jobs/{job_id}/results", None),
    ("GET", "/v1/jobs/{job_id}/errors", None),
    ("GET", "/v1/jobs/{job_id}/events", None),
    ("PATCH", "/v1/jobs/{job_id}", {"name": "other"}),
    ("POST", "/v1/jobs/{job_id}/cancel", None),
    ("POST", "/v1/jobs/{job_id}/resume", None),
    ("POST", "/v1/chat/completions", {"model": MODEL, "messages": ASK, "service_tier": "flex"}),
    ("POST", "/v1/chat/completions", {"model": MODEL, "messages": ASK, "logprobs": True}),
    ("POST", "/v1/chat/completions", {"model": MODEL, "messages": ASK, "stream": True}),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": ["a", "b"], "logprobs": 1}),
    ("POST", "/v1/embeddings", {"model": MODEL, "input": [[1, 2], [3]]}),
    ("POST", "/v1/embeddings", {"model": MODEL, "input": "a", "encoding_format": "base64"}),
    ("POST", "/v1/responses", {"model": MODEL, "input": "a", "background": True}),
    ("GET", "/v1/responses/{response_id}", None),
    ("GET", "/v1/files/{file_id}/content", None),
    ("GET", "/v1/batches/{batch_id}", None),
    ("GET", "/v1/webhook_endpoints/{endpoint_id}/deliveries", None),
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret", None),
    ("POST", "/v1/keys", {"tenant": "a", "name": "b", "weight": 2.0}),
    ("GET", "/v1/queues", None),
    ("GET", "/v1/workflows", None),
    ("GET", "/v1/workflows/{name}", None),
    ("POST", "/v1/workflows/validate", {"workflow": WORKFLOW}),
    ("POST", "/v1/workflows/preview", {"workflow": WORKFLOW, "inputs": INPUTS}),
    ("POST", "/v1/workflows/plan", {"workflow": WORKFLOW, "inputs": INPUTS}),
    ("GET", "/v1/workflows/runs", None),
    ("GET", "/v1/workflows/runs/{run_id}", None),
    ("GET", "/v1/workflows/runs/{run_id}/plan", None),
    ("GET", "/v1/workflows/runs/{run_id}/errors", None),
    ("GET", "/v1/workflows/runs/{run_id}/rows?row_id={row_id}", None),
    ("GET", "/v1/workflows/runs/{run_id}/results", None),
    ("GET", "/v1/workflows/runs/{run_id}/events", None),
    ("GET", "/v1/workflows/runs/{run_id}/steps/{step}/rows", None),
    ("GET", "/readyz", None),
]


@pytest.mark.parametrize(("method", "path", "body"), GOOD)
def test_what_succeeds_is_as_it_says(
    document: dict[str, Any],
    known: dict[str, str],
    http: httpx2.Client,
    method: str,
    path: str,
    body: Any,
) -> None:
    answer = http.request(method, path.format(**known), json=body)
    assert answer.status_code < 300, answer.text
    schema = schemathesis.openapi.from_dict(document)
    schema[path.partition("?")[0]][method].validate_response(answer)


def test_every_example_is_taken(
    document: dict[str, Any], known: dict[str, str], http: httpx2.Client
) -> None:
    there = {MODEL_NAMED: MODEL, FILE_ID: known["file_id"], HOOK_URL: "http://127.0.0.1:9/"}
    tried = []
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            text = json.dumps(example["value"])
            for said, meant in there.items():
                text = text.replace(said, meant)
            answer = http.request(method.upper(), path.format(**known), json=json.loads(text))
            assert answer.status_code < 300, f"{name}: {answer.text}"
            tried.append(name)
    assert sorted(tried) == sorted(EXAMPLES_TOLD)
