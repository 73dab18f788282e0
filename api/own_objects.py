"""What we answer under names of our own, for the OpenAPI document. Knows shapes, makes none.

More fields may come with newer servers; clients leave aside what they do not know.
"""

from typing import Any, Literal

from pydantic import BaseModel

from ..jobs import dry_run_report as dry_run
from ..jobs.model import Counts, JobState
from .openai_objects import Page


class JobUsage(BaseModel):
    """The tokens of a job so far."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class JobRate(BaseModel):
    """How fast a job goes of late; null while too little is known."""

    rows_per_s: float | None
    tokens_per_s: float | None


class JobPlace(BaseModel):
    """Where the rows land."""

    path: str


class Job(BaseModel):
    """A job as it stands; times are seconds since 1970."""

    id: str
    object: Literal["job"]
    name: str | None
    status: JobState
    status_reason: str | None
    model: str
    priority: int
    created_at: float | None
    started_at: float | None
    finished_at: float | None
    deadline: float | None
    counts: Counts
    errors_by_code: dict[str, int]
    max_error_rate: float | None
    retry_of: str | None
    usage: JobUsage
    rate: JobRate
    eta_s: float | None
    output: JobPlace
    error: str | None
    metadata: dict[str, str]


class RejectedRow(BaseModel):
    """A line of the input that cannot become a row."""

    line: int
    message: str


class RejectedRows(BaseModel):
    """How many lines cannot become rows, and what is wrong with the first of them."""

    count: int
    errors: list[RejectedRow]


class NewJob(Job):
    """A job that has just been taken."""

    rejected: RejectedRows


class ExpectedOutput(BaseModel):
    """Tokens of all answers: the bound, and what earlier jobs make likely; null is unknown."""

    at_most: int | None
    expected: int | None
    p90: int | None


class ExpectedSeconds(BaseModel):
    """How long the rows may take by themselves; a half and nine of ten jobs stay below."""

    p50: float | None
    p90: float | None


class JobValidation(BaseModel):
    """What a dry run has found; with `complete` false, of the first rows only."""

    object: Literal["job.validation"]
    model: str
    ok: bool
    complete: bool
    stopped: str | None
    rows: int
    refusal: dry_run.Refusal | None
    bad_lines: dry_run.BadLines
    row_errors: dry_run.RowFaults
    too_long: dry_run.LongRows
    duplicates: dry_run.Repeats
    duplicate_ids: dry_run.Repeats
    input_tokens: dry_run.InputTokens | None
    output_tokens: ExpectedOutput
    prefix_reuse: dry_run.PrefixReuse | None
    seconds: ExpectedSeconds | None
    rests_on: list[str]
    unchecked: list[str]


class JobList(Page):
    """A page of jobs."""

    data: list[Job]


class Listing(BaseModel):
    """A list that comes whole, or is cut where `has_more` says so."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    has_more: bool


class ResultPage(Listing):
    """A page of rows; `next_cursor` asks for what follows, once it has landed."""

    next_cursor: str | None
    incomplete: bool


class Deliveries(Page):
    """What is on its way to an endpoint, or was in the last week."""

    data: list[dict[str, Any]]


class ApiKey(BaseModel):
    """What may be seen of a key."""

    id: str
    object: Literal["api_key"]
    name: str | None
    tenant: str
    scopes: list[Literal["read", "submit", "admin"]]
    created_at: int
    revoked_at: int | None
    limits: dict[str, Any]


class NewApiKey(ApiKey):
    """A key that has just been made; only this answer tells it."""

    key: str


class ApiKeyList(Page):
    """A page of keys."""

    data: list[ApiKey]


class Queues(Listing):
    """A queue for every model, and beside them who waits."""

    tenants: list[dict[str, Any]]


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Rows come through the engines of these models."""

    status: Literal["ready"]
    models: list[str]


class StreamEvent(BaseModel):
    """One event of a stream; its data is JSON text, or at the end of OpenAI's streams `[DONE]`."""

    data: str
    event: str = "message"
    id: str = ""
