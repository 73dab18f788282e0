"""Responses in the background: jobs of one row, so that nothing that dies takes them with it.

    resp_01K3…  is  job_01K3…    its row holds the request as a chat, and what the response repeats

Knows jobs and response objects, no HTTP and no engine. It blocks: call it in a thread.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from ..jobs.ending import cancel
from ..jobs.errors import InvalidJob, JobBusy, UnknownJob
from ..jobs.job_dir import JobDir
from ..jobs.job_table import JobTable
from ..jobs.model import JobSnapshot, JobSpec, JobState, RequestError, TaskSpec
from ..jobs.removal import remove
from ..jobs.results import read_results
from ..jobs.settings import Settings
from ..jobs.submission import RowsSource, SubmitRequest, submit
from ..jobs.tool_use import ToolCall
from .errors import ApiError, GenerationFailed, InvalidRequest
from .generation import Usage, refusal_of
from .response_book import UnknownResponse
from .response_object import CallItem, ResponseDraft, Status, facts_of
from .response_schemas import ResponsesRequest

_CHAT = "/v1/chat/completions"
_MARK = {"penstock": "response"}  # metadata of such a job
_KEYS = "response:" + "-" * 512  # longer than any key that a client may send for a job of its own
_LOOK_EVERY_S = 0.1
_ID = re.compile(r"resp_([0-9A-HJKMNP-TV-Z]{26})")
_STATUS = {JobState.QUEUED: Status.QUEUED, JobState.VALIDATING: Status.QUEUED}


@dataclass(frozen=True, slots=True)
class _Found:
    spec: JobSpec
    row: dict[str, Any]
    job: JobSnapshot | None  # None: the table does not know of it just now


def is_background(response_id: str) -> bool:
    """Tell whether an id may be that of a response in the background."""
    return _ID.fullmatch(response_id) is not None


@dataclass(frozen=True, slots=True)
class Started:
    """A response that was accepted, now or under the same key before: as JSON."""

    shown: bytes
    created: bool


class BackgroundResponses:
    """Those of an installation; any process that serves its API sees them all.

    Each is kept until it is deleted, as any other job is.
    """

    def __init__(
        self, settings: Settings, table: JobTable, landing_patience_s: float = 5.0
    ) -> None:
        self._settings = settings
        self._table = table
        self._landing_patience_s = landing_patience_s

    def start(
        self, tenant: str, body: ResponsesRequest, *, priority: int, key: str | None = None
    ) -> Started:
        """Accept a response, durably; return it as it stands. A key makes one and no more.

        Raises:
            InvalidRequest: the key has made another one.
        InvalidJob: it cannot be.
            StorageFull: there is no room for it.
        """
        facts = facts_of(body)
        request = SubmitRequest(
            task=TaskSpec(model=body.model, endpoint=_CHAT),
            name="a response in the background",
            tenant=tenant,
            priority=priority,
            metadata=dict(_MARK),
            idempotency_key=None if key is None else _KEYS + key,
        )
        row = {"body": body.chat_body(), "response": facts}
        try:
            made = submit(self._settings, self._table, RowsSource([row]), request)
        except InvalidJob as error:
            if error.param == "idempotency_key":
                raise _reused_key() from error
            raise
        response_id = f"resp_{made.spec.job_id.removeprefix('job_')}"
        found = self._find(response_id, tenant)
        if not made.created and found.row != row:
            raise _reused_key()
        return Started(self._shown(response_id, found), made.created)

    def get(self, response_id: str, tenant: str) -> bytes:
        """Return a response as JSON.

        Raises:
            UnknownResponse: there is none of this id, or it is another tenant's.
        """
        return self._shown(response_id, self._find(response_id, tenant))

    def cancel(self, response_id: str, tenant: str) -> bytes:
        """Stop a response, unless it has ended; return what it has become.

        Raises:
            UnknownResponse: see `get`.
        """
        found = self._find(response_id, tenant)
        if found.job is None or not found.job.state.is_final:
            cancel(self._settings, self._table, found.spec.job_id)
        return self.get(response_id, tenant)

    def delete(self, response_id: str, tenant: str) -> None:
        """Stop and forget a response; one whose row has landed comes to its end first.

        Raises:
            UnknownResponse: see `get`.
            JobBusy: it does not come to its end just now.
        """
        job_id = self._find(response_id, tenant).spec.job_id
        deadline_s = time.monotonic() + self._landing_patience_s
        while not (job := cancel(self._settings, self._table, job_id)).state.is_final:
            if time.monotonic() >= deadline_s:
                raise JobBusy(job_id)
            time.sleep(_LOOK_EVERY_S)
        remove(self._settings, self._table, job)

    def _find(self, response_id: str, tenant: str) -> _Found:
        match = _ID.fullmatch(response_id)
        job_dir = JobDir(self._settings.jobs_dir, f"job_{match[1]}" if match else "none")
        try:
            spec = job_dir.read_spec()
        except UnknownJob:
            raise UnknownResponse(response_id) from None
        if spec.tenant != tenant or spec.metadata != _MARK:
            raise UnknownResponse(response_id)
        with job_dir.open_input() as sealed:
            row = sealed.shard(0)[0].row
        if not isinstance(row.get("response"), dict):  # somebody's own job that looks like one
            raise UnknownResponse(response_id)
        return _Found(spec, row, self._table.snapshot(spec.job_id))

    def _shown(self, response_id: str, found: _Found) -> bytes:
        draft = ResponseDraft(
            found.row["response"],
            response_id=response_id,
            created_at=found.spec.created_at_ms // 1000,
            status=Status.QUEUED,
        )
        job = found.job
        if job is not None:
            self._complete(draft, found.spec, job)
        return msgspec.json.encode(draft.to_object())

    def _complete(self, draft: ResponseDraft, spec: JobSpec, job: JobSnapshot) -> None:
        """Say how it went, as far as it is known."""
        match job.state:
            case JobState.CANCELLED:
                draft.cancel()
            case JobState.COMPLETED | JobState.COMPLETED_WITH_ERRORS:
                [row] = read_results(self._table, spec, None, 1).rows
                _fill(draft, row, (job.finished_at_ms or 0) // 1000)
            case JobState.FAILED | JobState.EXPIRED:
                draft.fail(GenerationFailed(job.error or job.status_reason or "it was not run"))
            case _:
                draft.status = _STATUS.get(job.state, Status.IN_PROGRESS)


def _fill(draft: ResponseDraft, row: dict[str, Any], ended_at: int) -> None:
    """Complete a draft from its landed row."""
    if row["error"] is not None:
        draft.fail(_refusal(row["error"]))
        return
    draft.add_text(row["output"] or "")
    draft.items += [CallItem(ToolCall(**call)) for call in row["tool_calls"] or ()]
    draft.conclude(row["finish_reason"])
    tokens = (row[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens"))
    draft.end(Usage(*tokens), at=ended_at)


def _reused_key() -> InvalidRequest:
    return InvalidRequest(
        "the idempotency key has made another response; take a new key",
        param="idempotency_key",
        code="idempotency_key_reused",
    )


def _refusal(error: dict[str, Any]) -> ApiError:
    return refusal_of(RequestError(**error), "input")
