"""What became of a batch, in OpenAI's lines: answers for one file, refusals for the other.

Knows landed rows and the sealed input; no HTTP. A row that never ran is told as well, with why.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .batch_record import Usage
from .logprob_shapes import chat_logprobs, completion_logprobs
from .model import EMBED, JobSpec, RowStatus
from .part_file import CorruptPart, read_part
from .results_dir import ResultsDir
from .sealed_input import CorruptShard, SealedInput

logger = logging.getLogger(__name__)

CHAT = "/v1/chat/completions"
NOT_RUN = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed: the batch was cancelled.",
    "batch_failed": "This request was not executed: its job failed.",
    "checksum_mismatch": "What came of this request can no longer be read from the server's disk.",
}


@dataclass(slots=True)
class Tally:
    """What has been written so far."""

    completed: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)


def write_lines(
    spec: JobSpec,
    input_path: Path,
    *,
    not_run: str,
    output: BinaryIO,
    errors: BinaryIO,
    tally: Tally,
) -> None:
    """Write a line for every row of an ended job, to `output` or to `errors`.

    `not_run` says why a row has nothing: a key of NOT_RUN. Rows of files that have rotted are told
    as such.

    Raises:
        CorruptInput: the job's input cannot be read at all.
    """
    results = ResultsDir.of(spec)
    with SealedInput(input_path) as sealed:
        for shard in range(spec.num_shards):
            path, why = results.part(shard), not_run
            landed: list[list[dict[str, Any]]] = []
            if path.exists():
                try:
                    landed = [*_rows(path)]
                except CorruptPart as error:
                    logger.error("%s", error)
                    why = "checksum_mismatch"
            if not landed:
                for row_index, custom_id in _names(sealed, shard):
                    errors.write(_not_run_line(spec, row_index, custom_id, why))
                    tally.failed += 1
            for samples in landed:
                line, is_ok = _line(spec, samples)
                (output if is_ok else errors).write(line)
                tally.completed += is_ok
                tally.failed += not is_ok
                tally.usage = _added(tally.usage, samples)


def _names(sealed: SealedInput, shard: int) -> list[tuple[int, str | None]]:
    """Return the rows of a shard and what the user calls them, as far as it can be read."""
    try:
        return [(row.row_index, row.custom_id) for row in sealed.shard(shard)]
    except CorruptShard as error:
        logger.error("%s", error)
        return [(row_index, None) for row_index in error.row_indexes]


def _rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the samples of each row, in order."""
    landed = read_part(path).to_pylist()
    landed.sort(key=lambda row: (row["row_index"], row["sample_index"]))
    for _, samples in groupby(landed, key=lambda row: row["row_index"]):
        yield list(samples)


def _line(spec: JobSpec, samples: list[dict[str, Any]]) -> tuple[bytes, bool]:
    first = samples[0]
    failed = next((row for row in samples if row["status"] != RowStatus.SUCCEEDED), None)
    if failed is None:
        tell = _BODIES.get(spec.task.endpoint or CHAT, _completion)
        status, body = 200, tell(spec, samples)
    else:
        status, body = _refusal(failed["error"] or {})
    response = {
        "status_code": status,
        "request_id": _name("req", spec, first["row_index"]),
        "body": body,
    }
    return _encoded(spec, first["row_index"], first["custom_id"], response, None), failed is None


def _not_run_line(spec: JobSpec, row_index: int, custom_id: str | None, code: str) -> bytes:
    error = {"code": code, "message": NOT_RUN[code]}
    return _encoded(spec, row_index, custom_id, None, error)


def _encoded(
    spec: JobSpec, row_index: int, custom_id: str | None, response: object, error: object
) -> bytes:
    line = {
        "id": _name("batch_req", spec, row_index),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return msgspec.json.encode(line) + b"\n"


def _chat(spec: JobSpec, samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_head(spec, samples, "chatcmpl", "chat.completion"),
        "choices": [
            {
                "index": row["sample_index"],
                "message": _message(row),
                "logprobs": chat_logprobs(row.get("logprobs")),
                "finish_reason": row["finish_reason"],
            }
            for row in samples
        ],
    }


def _completion(spec: JobSpec, samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_head(spec, samples, "cmpl", "text_completion"),
        "choices": [
            {
                "index": row["sample_index"],
                "text": row["output"] or "",
                "logprobs": completion_logprobs(row.get("logprobs")),
                "finish_reason": row["finish_reason"],
            }
            for row in samples
        ],
    }


def _embedding(spec: JobSpec, samples: list[dict[str, Any]]) -> dict[str, Any]:
    num_tokens = _added(Usage(), samples).input_tokens
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row["embedding"]}
            for index, row in enumerate(samples)
        ],
        "model": spec.task.model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


_BODIES = {CHAT: _chat, EMBED: _embedding}


def _head(spec: JobSpec, samples: list[dict[str, Any]], prefix: str, kind: str) -> dict[str, Any]:
    first = samples[0]
    usage = _added(Usage(), samples)
    return {
        "id": _name(prefix, spec, first["row_index"]),
        "object": kind,
        "created": int(first["finished_at"].timestamp()) if first["finished_at"] else 0,
        "model": spec.task.model,
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        },
    }


def _message(row: Mapping[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": row["output"], "refusal": None}
    calls = row.get("tool_calls")
    if calls:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ]
    return message


def _refusal(error: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status and body that the request would have been answered with."""
    code = error.get("code") or "engine_error"
    is_callers = code.startswith(("invalid", "context_length", "template"))
    body = {
        "message": error.get("message") or "the row failed",
        "type": "invalid_request_error" if is_callers else "server_error",
        "param": error.get("param"),
        "code": code,
    }
    return (400 if is_callers else 500), {"error": body}


def _added(usage: Usage, samples: list[dict[str, Any]]) -> Usage:
    """Add the tokens of a row, whose prompt is paid for once."""
    return Usage(
        usage.input_tokens + max(row["prompt_tokens"] or 0 for row in samples),
        usage.output_tokens + sum(row["completion_tokens"] or 0 for row in samples),
        usage.cached_tokens + max(row["cached_tokens"] or 0 for row in samples),
    )


def _name(prefix: str, spec: JobSpec, row_index: int) -> str:
    """Name something of a row, the same whenever it is asked for."""
    separator = "-" if prefix in ("chatcmpl", "cmpl") else "_"
    return f"{prefix}{separator}{spec.job_id.removeprefix('job_')}_{row_index}"
