"""What is said to run requests as one bulk job, and how its rows become answers again.

Knows job paths by way of `job_calls`, and OpenAI's shape of an answer. Knows no future and does no
IO (see `talk`). A server that is away for a while is borne, and so is a job that pauses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from typing import Any, TypeAlias

from ..jobs.logprob_shapes import chat_logprobs
from .client_errors import JobFailed, JobPaused, PenstockError, RowFailed
from .job_calls import SubmitOptions, cancel_job, get_job, job_errors, submit_job
from .patient_wait import LONG_POLL_S, PAUSE_S, patient
from .payloads import Upload
from .records import ChatAnswer, JobRecord, Row, Usage
from .rest_paths import path_to
from .results_pager import ResultsPager
from .retry_policy import RetryPolicy
from .talk import Send, Talk, ask

Outcome: TypeAlias = ChatAnswer | PenstockError

ID_COLUMN = "batch_place"  # in the input; the rows that land tell it as their custom_id

_PAGE_ROWS = 500
_MOST_ERRORS = 10_000  # that the server tells at once


@dataclass(frozen=True, slots=True)
class Request:
    """A row of a bulk job: its line, and how many samples it lands as."""

    line: bytes
    num_samples: int = 1


def run_requests(
    requests: Sequence[Request],
    options: SubmitOptions,
    retry: RetryPolicy,
    *,
    is_wanted: Callable[[JobRecord], bool],
    on_outcome: Callable[[int, Outcome], None],
) -> Talk[None]:
    """Run requests as one job and hand out what becomes of each, by its place, as rows land.

    Args:
        requests: what is asked; the lines are told by their places, see `numbered`.
        options: all else about the job.
        retry: how patient a call is; a server that is away is borne for longer.
        is_wanted: called once the job is there; where it is not wanted any more, it is cancelled.
        on_outcome: called once for every request, unless the job was not wanted.
    """
    upload = Upload("requests.jsonl", BytesIO(b"".join(numbered(requests))))
    submitted = yield from submit_job(upload, options, patient(retry))
    del upload  # the server has the rows
    if not is_wanted(submitted):
        yield from cancel_job(submitted.id, retry)
        return
    answers = _Answers([request.num_samples for request in requests], submitted.id)
    pager = ResultsPager(submitted.id, status=None, follow=True, page_rows=_PAGE_ROWS)
    look = Send("GET", path_to("jobs", submitted.id), params={"wait": LONG_POLL_S}, after_s=PAUSE_S)
    while not pager.is_done:
        try:
            rows = yield from pager.next_page(retry)
        except JobPaused:  # until somebody resumes it, or cancels it
            yield from ask(look, patient(retry), lambda response: None)
            continue
        for row in rows:
            for place, outcome in answers.take(row):
                on_outcome(place, outcome)
    ended = yield from get_job(submitted.id, patient(retry))
    reasons = {line.line: line.message for line in submitted.rejected}
    if len(reasons) < ended.counts.rejected:  # the first hundred at most are told at once
        limit = min(len(requests), _MOST_ERRORS)
        errors = yield from job_errors(submitted.id, patient(retry), limit=limit)
        reasons |= {error["line"]: error["message"] for error in errors if "line" in error}
    for place, outcome in answers.rest(ended, reasons):
        on_outcome(place, outcome)


def numbered(requests: Sequence[Request]) -> Iterator[bytes]:
    """Write the places of requests into their lines, each of which is a JSON object."""
    for place, request in enumerate(requests):
        rest = request.line[1:]
        comma = b"" if rest == b"}" else b","
        yield b'{"%s":"%d"%s%s\n' % (ID_COLUMN.encode(), place, comma, rest)


class _Answers:
    """Gathers the landed samples of each request until they are all there."""

    def __init__(self, num_samples: Sequence[int], job_id: str) -> None:
        self._num_samples = num_samples
        self._job_id = job_id
        self._open = set(range(len(num_samples)))
        self._landed: dict[int, list[Row]] = {}

    def take(self, row: Row) -> Iterator[tuple[int, Outcome]]:
        """Take a row in; give the outcome that it makes complete."""
        place = int(row["custom_id"])
        samples = self._landed.setdefault(place, [])
        samples.append(row)
        if place in self._open and (not row.succeeded or len(samples) >= self._num_samples[place]):
            self._open.remove(place)
            yield place, self._outcome(self._landed.pop(place))

    def rest(self, ended: JobRecord, reasons: Mapping[int, str]) -> Iterator[tuple[int, Outcome]]:
        """Give the outcomes of all that have none yet, now that the job has ended.

        Args:
            ended: the job.
            reasons: why lines of its input, counted from 1, are no rows.
        """
        is_completed = ended.status.value.startswith("completed")
        for place in sorted(self._open):
            if place in self._landed and is_completed:
                yield place, self._outcome(self._landed[place])
            elif place + 1 in reasons or is_completed:
                reason = reasons.get(place + 1, "it is not among the rows that the server took")
                yield place, RowFailed(reason, "invalid_request", self._job_id)
            else:
                yield place, self._not_run(place, ended)

    def _not_run(self, place: int, ended: JobRecord) -> JobFailed:
        num_landed, num_samples = len(self._landed.get(place, ())), self._num_samples[place]
        what = f"only {num_landed} of {num_samples} samples have" if num_landed else "not"
        why = ended.error or ended.status_reason or "the server gave no reason"
        message = f"{what} run: job {ended.id} is {ended.status} ({why})"
        return JobFailed(message, ended.id, ended.status)

    def _outcome(self, samples: Sequence[Row]) -> Outcome:
        for row in samples:
            if not row.succeeded:
                error = row.error or {}
                code = error.get("code") or "engine_error"
                return RowFailed(error.get("message") or "no reason given", code, self._job_id)
        raw = completion_of(samples, self._job_id)
        counts = raw["usage"]
        cached = counts["prompt_tokens_details"]["cached_tokens"]
        usage = Usage(counts["prompt_tokens"], counts["completion_tokens"], cached)
        return replace(ChatAnswer.from_json(raw), usage=usage)


def completion_of(samples: Sequence[Row], job_id: str) -> dict[str, Any]:
    """Write the landed samples of one request as OpenAI's `chat.completion`."""
    first = samples[0]
    num_prompt, num_cached = first.get("prompt_tokens") or 0, first.get("cached_tokens") or 0
    num_written = sum(row.get("completion_tokens") or 0 for row in samples)
    return {
        "id": f"chatcmpl-{job_id.removeprefix('job_')}_{first['row_index']}",
        "object": "chat.completion",
        "created": _unix_s(first.get("finished_at")),
        "model": first.get("model") or "",
        "choices": [
            {
                "index": index,
                "message": _message(row),
                "logprobs": chat_logprobs(row.get("logprobs")),
                "finish_reason": row.get("finish_reason"),
            }
            for index, row in enumerate(samples)
        ],
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_written,
            "total_tokens": num_prompt + num_written,
            "prompt_tokens_details": {"cached_tokens": num_cached},
        },
    }


def _message(row: Row) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": row.output, "refusal": None}
    if row.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in row.tool_calls]
    return message


def _tool_call(call: Mapping[str, str]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


def _unix_s(moment: str | None) -> int:
    return 0 if moment is None else int(datetime.fromisoformat(moment).timestamp())
