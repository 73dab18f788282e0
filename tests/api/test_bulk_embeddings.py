"""Vectors of whole files: as a job that lands a column `embedding`, and as OpenAI's batch."""

import json
import time

import httpx2
import openai
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.client import Client
from penstock.api.client_errors import BadRequest
from penstock.jobs.fake_engine import DIMENSIONS, expected_vector

from .conftest import MODEL, Stack
from .plain_jobs import wait

EMBED = "/v1/embeddings"


def test_a_job_lands_vectors(http: httpx2.Client, stack: Stack) -> None:
    rows = [{"text": "a"}, {"text": "bb"}, {"text": "[[fail]]"}]
    body = {"model": MODEL, "endpoint": EMBED, "prompt": "{{ row.text }}", "input": {"rows": rows}}
    answer = http.post("/v1/jobs", json=body)
    assert answer.status_code in (200, 202), answer.text
    job = wait(http, answer.json()["id"])
    assert job["status"] == "completed_with_errors"
    [part] = stack.settings.data_dir.rglob(f"{job['id']}/rows/*.parquet")
    table = pq.read_table(part)
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    first, second, failed = table.to_pylist()
    assert first["embedding"] == pytest.approx(expected_vector("a"), abs=1e-6)
    assert second["embedding"] == pytest.approx(expected_vector("bb"), abs=1e-6)
    assert (first["output"], first["prompt_tokens"], first["completion_tokens"]) == (None, 1, 0)
    assert failed["embedding"] is None
    assert failed["error"]["code"] == "engine_error"
    results = http.get(f"/v1/jobs/{job['id']}/results").text.splitlines()
    assert json.loads(results[0])["embedding"] == pytest.approx(expected_vector("a"), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"sampling": {"temperature": 1}}, "sampling"),
        ({"prompt": None, "messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_only_answers_have_is_refused(http: httpx2.Client, change: dict, param: str) -> None:
    body = {"model": MODEL, "endpoint": EMBED, "prompt": "x", "input": {"rows": [{"a": 1}]}}
    answer = http.post("/v1/jobs", json={**body, **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_batch_brings_vectors(client: openai.OpenAI) -> None:
    bodies = [
        {"input": "a"},
        {"input": ["bb"], "dimensions": 3, "encoding_format": "float"},
        {"input": "c", "dimensions": DIMENSIONS + 1},
        {"input": ["c", "d"]},
        {"input": "c", "temperature": 1},
        {"input": "c", "encoding_format": "base64"},
    ]
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": EMBED,
            "body": {"model": MODEL, **body},
        }
        for number, body in enumerate(bodies)
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("rows.jsonl", data), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=EMBED, completion_window="24h")
    deadline_s = time.monotonic() + 60
    while batch.status not in ("completed", "failed"):
        assert time.monotonic() < deadline_s, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id, batch
    assert batch.error_file_id, batch

    def told(file_id: str) -> dict[str, dict]:
        lines = map(json.loads, client.files.content(file_id).text.splitlines())
        return {line["custom_id"]: line["response"] for line in lines}

    answers = told(batch.output_file_id)
    assert sorted(answers) == ["0", "1"]
    made = openai.types.CreateEmbeddingResponse.model_validate(answers["0"]["body"])
    assert made.data[0].embedding == pytest.approx(expected_vector("a"), abs=1e-6)
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (1, 1)
    vector = answers["1"]["body"]["data"][0]["embedding"]
    assert vector == pytest.approx(expected_vector("bb", 3), abs=1e-6)
    refused = told(batch.error_file_id)
    assert {number: answer["body"]["error"]["param"] for number, answer in refused.items()} == {
        "2": "dimensions",
        "3": "input",
        "4": "temperature",
        "5": "encoding_format",
    }
    assert {answer["status_code"] for answer in refused.values()} == {400}


def test_a_job_says_how_long_its_vectors_are(stack: Stack) -> None:
    rows = [{"text": "a"}, {"text": "bb"}]
    with Client(stack.url) as client:
        job = client.jobs.submit(
            rows, prompt="{{ row.text }}", model=MODEL, endpoint=EMBED, dimensions=3
        )
        job.wait(timeout_s=60)
        vectors = [row["embedding"] for row in job.results()]
        with pytest.raises(BadRequest, match="dimensions"):
            client.jobs.submit(rows, prompt="{{ row.text }}", model=MODEL, dimensions=3)
    assert vectors == [pytest.approx(expected_vector(row["text"], 3), abs=1e-6) for row in rows]
