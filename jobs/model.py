"""The nouns of the queue: jobs, shards, leases, rows. Knows no Redis, no file and no engine.

A job's life:

    queued -> running <-> paused        queued <-> paused as well
                 |           |
                 v           v          from all of these
              landing <------+          cancelled | expired | failed
                 |
                 v
    completed | completed_with_errors

`validating` stands before `queued` while the input is still arriving.
"""

import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..engine.outputs import RequestError
from ..engine.sampling_params import InvalidSampling, SamplingParams
from .response_format import structured_outputs_of
from .tool_use import ToolUse

__all__ = [
    "ColumnType",
    "Counts",
    "InvalidSampling",
    "JobSnapshot",
    "JobSpec",
    "JobState",
    "Message",
    "RejectedLine",
    "RequestError",
    "RowStatus",
    "SamplingParams",
    "ShardRef",
    "TaskSpec",
    "new_job_id",
    "spec_version",
]

DEFAULT_PRIORITY = 0
ERROR_RATE_AFTER = 100
EMBED = "/v1/embeddings"
SPEC_VERSION = 4  # the newest that is read; `spec_version` says what each brought


class JobState(StrEnum):
    """Where a job stands."""

    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    LANDING = "landing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self in _FINAL_STATES

    @property
    def is_open(self) -> bool:
        """Whether shards may be handed out."""
        return self in (JobState.QUEUED, JobState.RUNNING)

    @property
    def is_alive(self) -> bool:
        """Whether shards that are held stay so, and land."""
        return self.is_open or self is JobState.PAUSED


_FINAL_STATES = frozenset(
    {
        JobState.COMPLETED,
        JobState.COMPLETED_WITH_ERRORS,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }
)


class RowStatus(StrEnum):
    """How a landed row ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class ColumnType(StrEnum):
    """Types of the user's own columns, fixed when the job is sealed. JSON is text holding JSON."""

    BOOL = "bool"
    INT = "int64"
    FLOAT = "float64"
    STRING = "string"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; in a task its `content` is a template over the row's columns."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What is to be done with every row.

    With neither `prompt` nor `messages`, each row brings its own in a column of that name. A
    prompt goes through the model's chat template when the model has one, unless `endpoint` is
    "/v1/completions"; `endpoint=None` leaves the choice to the model. With `EMBED` it is the
    prompt's vector that lands, and how answers are made has no meaning.
    """

    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    endpoint: str | None = None  # None | "/v1/chat/completions" | "/v1/completions" | EMBED
    sampling: dict[str, Any] = field(default_factory=dict)
    response_format: dict[str, Any] | None = None  # OpenAI's; a row's own outranks it
    tools: ToolUse | None = None  # likewise
    template_options: dict[str, Any] = field(default_factory=dict)  # of the chat template
    dimensions: int | None = None  # of a vector's; a row's own outranks it

    def sampling_params(self) -> SamplingParams:
        """Read `sampling`; without `max_tokens` an answer may go on to the context's end.

        Raises:
            InvalidSampling: a value is wrong, or a name is unknown.
        """
        values = {"max_tokens": None, **self.sampling}
        form = structured_outputs_of(self.response_format)
        if form is not None:
            if values.get("structured_outputs") is not None:
                raise InvalidSampling("response_format", "says the same as structured_outputs")
            values["structured_outputs"] = form
        return SamplingParams.from_mapping(values)

    def document_schema(self) -> dict[str, Any] | None:
        """Return the JSON schema that every answer follows, if one is declared."""
        form = self.sampling_params().structured_outputs
        return json.loads(form.json) if form is not None and isinstance(form.json, str) else None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A sealed job, as `job.json` holds it. Everything Redis knows can be made from this again."""

    job_id: str
    task: TaskSpec
    num_rows: int  # sealed rows, without the rejected lines
    num_shards: int
    shard_rows: int  # rows in every shard but the last
    columns: dict[str, ColumnType]  # the user's columns, in their order
    out: str  # directory that receives <job_id>/rows, on a file system
    created_at_ms: int
    num_rejected: int = 0  # lines that could not become rows; bad_lines.jsonl names them
    name: str | None = None
    id_column: str | None = None  # the column that becomes custom_id
    tenant: str = "default"
    priority: int = DEFAULT_PRIORITY  # larger is served first
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    deadline_ms: int | None = None  # what has not landed by then is not run
    max_error_rate: float | None = None  # the job pauses when more of its rows failed
    error_rate_after: int = ERROR_RATE_AFTER  # rows, before it is judged
    out_url: str | None = None  # s3://bucket/prefix that receives a copy when all rows are there
    retry_of: str | None = None  # the job whose failed rows these are
    retry_codes: list[str] | None = None  # of which errors, sorted; []: of all; None: not noted
    has_logprobs: bool = False  # some row asks for log-probabilities: there is a column for them
    arrow_schema: str | None = None  # what the user's columns were, as `column_schema` writes it
    version: int = 1  # `spec_version` says which one it takes

    @property
    def wants_documents(self) -> bool:
        """Whether every answer is to be a JSON document, which no row's own request may change."""
        task = self.task
        brings_requests = task.prompt is None and task.messages is None and "body" in self.columns
        if task.endpoint == EMBED or brings_requests:
            return False
        form = task.sampling_params().structured_outputs
        return form is not None and (form.json is not None or bool(form.json_object))


def spec_version(task: TaskSpec, columns: Collection[str], *, has_logprobs: bool = False) -> int:
    """Return the oldest version that says all of this: older workers go on with what they know.

    4: log-probabilities, dimensions of vectors
    3: vectors in place of answers
    2: response_format, tools, template_options, typed documents, and requests in a column `body`
    """
    if has_logprobs or task.dimensions is not None:
        return 4
    if task.endpoint == EMBED:
        return 3
    wishes = (task.response_format, task.tools, task.template_options or None)
    has_form = task.document_schema() is not None or any(wish is not None for wish in wishes)
    brings_requests = task.prompt is None and task.messages is None and "body" in columns
    return 2 if has_form or brings_requests else 1


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """An input line that could not become a row. `line` counts from 1."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A shard by name: rows [index * shard_rows, ...) of a job. What a Celery message carries."""

    job_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a job by where they stand. All but `rejected` and `unparsed` add up to `total`."""

    total: int = 0
    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    not_run: int = 0  # the job ended before their turn
    unparsed: int = 0  # of those that succeeded: not the document that was asked for


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job as the job table sees it now."""

    job_id: str
    state: JobState
    counts: Counts
    num_shards: int
    shards_landed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    created_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    model: str
    name: str | None
    priority: int
    tenant: str
    out: str
    error: str | None = None  # why it failed; while it runs, what holds it up
    status_reason: str | None = None  # why it stands where it does, "code: in words"
    deadline_ms: int | None = None
    max_error_rate: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)  # error code -> failed rows
    pause_reason: str | None = None
    retry_of: str | None = None


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_job_id(prefix: str = "job") -> str:
    """Make an id that sorts by time: a ULID behind a prefix, as in `job_01K3…`."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_CROCKFORD[digit])
    return f"{prefix}_{''.join(reversed(digits))}"
