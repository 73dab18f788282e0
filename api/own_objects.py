"""What we answer under names of our own, for the OpenAPI document. Knows shapes, makes none.

What a dry run answers: see `dry_run_objects`; what runs of workflows do: `run_objects`.
More fields may come with newer servers; clients leave aside what they do not know.
"""

from typing import Any, Literal

from ..jobs.model import JobState
from .described import Described
from .shared_objects import Page


class JobUsage(Described):
    """The tokens of a job so far."""

    prompt_tokens: int
    """Tokens of all prompts."""
    completion_tokens: int
    """Tokens of all answers."""
    cached_tokens: int
    """How many of the prompts' tokens the engine had computed before."""


class JobRate(Described):
    """How fast a job goes of late; null while too little is known."""

    rows_per_s: float | None
    """Rows that end in a second."""
    tokens_per_s: float | None
    """Tokens that are generated in a second."""


class Counts(Described):
    """Rows of a job by where they stand. All but `rejected` and `unparsed` add up to `total`."""

    total: int
    """All that the input has."""
    pending: int
    """Their turn has not come."""
    running: int
    """Workers have them."""
    succeeded: int
    """They were answered."""
    failed: int
    """They ended with an error of their own."""
    rejected: int
    """Lines of the input that could not become rows."""
    not_run: int
    """The job ended before their turn."""
    unparsed: int
    """Of those that succeeded: their answer is not the JSON document that was asked for, as where
    `max_tokens` has cut it short. Nothing is counted where rows bring requests of their own.
    """


class JobPlace(Described):
    """Where the rows land."""

    path: str
    """A directory on the server's machine, or in a store that it reaches."""


class Job(Described):
    """A job as it stands; times are seconds since 1970."""

    id: str
    """By which requests name it."""
    object: Literal["job"]
    """What this is."""
    name: str | None
    """The name that it was given; null without one."""
    status: JobState
    """Where it stands."""
    status_reason: str | None
    """Why it stands there, a code first, as in `error_rate: 12 of 100 rows failed`; null where
    nothing is to be said.
    """
    model: str
    """The model that is asked."""
    priority: int
    """The larger goes first."""
    created_at: float | None
    """When it was submitted."""
    started_at: float | None
    """When its first rows were taken; null before."""
    finished_at: float | None
    """When it ended; null before."""
    deadline: float | None
    """By when it has to end; null without a deadline."""
    counts: Counts
    """Its rows, by where they stand."""
    errors_by_code: dict[str, int]
    """How many rows failed with which error code."""
    max_error_rate: float | None
    """The share of failed rows at which it pauses; null for none."""
    retry_of: str | None
    """The job whose failed rows these are; null where it is no retry."""
    usage: JobUsage
    """Its tokens so far."""
    rate: JobRate
    """How fast it goes of late."""
    eta_s: float | None
    """How many seconds the rest will take at that rate; null while it does not run, and while too
    little is known.
    """
    output: JobPlace
    """Where its rows land."""
    error: str | None
    """Why it failed, or what holds it up; null where nothing does."""
    metadata: dict[str, str]
    """The labels that it was given."""


class RejectedRow(Described):
    """A line of the input that cannot become a row."""

    line: int
    """Which line, from 1; of Parquet, which row."""
    message: str
    """What is wrong with it."""


class RejectedRows(Described):
    """How many lines cannot become rows, and what is wrong with the first of them."""

    count: int
    """How many there are."""
    errors: list[RejectedRow]
    """The first hundred."""


class NewJob(Job):
    """A job that has just been taken."""

    rejected: RejectedRows
    """Lines of the input that cannot become rows."""


class JobList(Page):
    """A page of jobs."""

    data: list[Job]
    """The jobs of this page."""


class Listing(Described):
    """A list that comes whole, or is cut where `has_more` says so."""

    object: Literal["list"]
    """What this is."""
    data: list[dict[str, Any]]
    """What is listed."""
    has_more: bool
    """Whether there is more of it."""


class ResultPage(Listing):
    """A page of rows; `next_cursor` asks for what follows, once it has landed."""

    next_cursor: str | None
    """What `after` takes for the next page; null where nothing will ever follow."""
    incomplete: bool
    """Whether rows behind this page are still on their way."""


class Deliveries(Page):
    """What is on its way to an endpoint, or was in the last week."""

    data: list[dict[str, Any]]
    """The deliveries, the newest first."""


class ApiKey(Described):
    """What may be seen of a key."""

    id: str
    """By which requests name it; it is not the key."""
    object: Literal["api_key"]
    """What this is."""
    name: str | None
    """What people call it; null without a name."""
    tenant: str
    """For whom it is."""
    scopes: list[Literal["read", "submit", "admin"]]
    """What it may do."""
    created_at: int
    """When it was made, in seconds since 1970."""
    revoked_at: int | None
    """When it was put out of force, in seconds since 1970; null while it holds."""
    limits: dict[str, Any]
    """What its tenant may have, under the names with which a key is made; null is no limit."""


class NewApiKey(ApiKey):
    """A key that has just been made; only this answer tells it."""

    key: str
    """The key itself, for `Authorization: Bearer`."""


class ApiKeyList(Page):
    """A page of keys."""

    data: list[ApiKey]
    """The keys of this page."""


class QueueList(Listing):
    """A queue for every model, and beside them who waits."""

    tenants: list[dict[str, Any]]
    """For each tenant the jobs, rows and limits, as for each queue."""


class Liveness(Described):
    """The process runs."""

    status: Literal["ok"]
    """Always `ok`."""


class Readiness(Described):
    """Rows come through the engines of these models."""

    status: Literal["ready"]
    """Always `ready`."""
    models: list[str]
    """Those of which a row came through lately."""


class StreamEvent(Described):
    """One event of a stream; its data is JSON text, or at the end of OpenAI's streams `[DONE]`."""

    data: str
    """What happened, as JSON text."""
    event: str = "message"
    """Its kind."""
    id: str = ""
    """With it as `Last-Event-ID` a stream of events goes on behind it."""
