"""A body for each operation that people begin with, for the OpenAPI document. Knows no route.

The tests send each of them to a server, with what is there in place of the names below.
"""

from typing import Any

MODEL = "Qwen/Qwen3-8B"
FILE_ID = "file-01K3A7C2Q9V5M8X4T6R1B0N3ZD"
HOOK_URL = "https://example.com/hooks/penstock"

_ROWS = [
    {"id": "r1", "text": "The battery lasts for two days."},
    {"id": "r2", "text": "It broke in the first week."},
]
_JOB: dict[str, Any] = {
    "model": MODEL,
    "prompt": "Is this review good or bad? Answer in one word.\n\n{{ row.text }}",
    "input": {"rows": _ROWS},
    "id": "id",
    "sampling": {"temperature": 0, "max_tokens": 8},
}
_WORKFLOW: dict[str, Any] = {
    "version": 1,
    "name": "judged-reviews",
    "inputs": {"reviews": {"type": "dataset", "columns": {"id": "string", "text": "string"}}},
    "defaults": {"model": MODEL},
    "steps": [
        {
            "id": "verdict",
            "type": "generate",
            "prompt": "Is this review good or bad? Answer in one word.\n\n{{ row.text }}",
            "sampling": {"max_tokens": 8},
        },
        {"id": "known", "type": "filter", "where": "row.verdict is not none"},
    ],
    "output": {"select": ["id", "verdict"]},
}
_INPUTS = {"reviews": {"rows": _ROWS}}
_ASK = [{"role": "user", "content": "Name three rivers in Europe."}]

EXAMPLES: dict[str, dict[str, Any]] = {
    "create_job": {
        **_JOB,
        "name": "reviews",
        "deadline": "2h",
        "max_error_rate": 0.1,
        "metadata": {"team": "support"},
        "idempotency_key": "reviews-2026-11-21",
    },
    "validate_job": _JOB,
    "change_job": {"name": "reviews, again", "metadata": {"team": "sales"}},
    "store_workflow": {"workflow": _WORKFLOW},
    "validate_workflow": {"workflow": _WORKFLOW, "inputs": _INPUTS},
    "preview_workflow": {"workflow": _WORKFLOW, "inputs": _INPUTS, "rows": 2},
    "plan_workflow": {
        "workflow": _WORKFLOW,
        "inputs": _INPUTS,
        "sample_rows": 2,
        "num_rows": {"reviews": 200_000},
    },
    "create_run": {"workflow": _WORKFLOW, "inputs": _INPUTS, "name": "reviews", "priority": 10},
    "create_chat_completion": {
        "model": MODEL,
        "messages": [{"role": "system", "content": "Answer briefly."}, *_ASK],
        "temperature": 0.7,
        "max_completion_tokens": 200,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "create_completion": {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 64},
    "create_response": {"model": MODEL, "input": _ASK, "max_output_tokens": 200},
    "create_embeddings": {"model": MODEL, "input": ["a river", "a mountain"]},
    "create_upload": {
        "bytes": 104_857_600,
        "filename": "reviews.jsonl",
        "mime_type": "application/jsonl",
        "purpose": "user_data",
    },
    "create_batch": {
        "input_file_id": FILE_ID,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"team": "support"},
    },
    "create_endpoint": {
        "name": "the team's inbox",
        "url": HOOK_URL,
        "event_types": ["batch.completed", "batch.failed"],
    },
    "create_key": {
        "tenant": "acme",
        "scopes": ["read", "submit"],
        "name": "nightly jobs",
        "weight": 2.0,
        "max_rows": 1_000_000,
        "requests_per_minute": 600,
    },
}
