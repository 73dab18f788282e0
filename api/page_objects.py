"""What pages ask for beside jobs and runs, for the OpenAPI document. Knows shapes, makes none."""

from typing import Any, Literal

from .described import Described


class TimelinePoint(Described):
    """What ended in one step of a timeline; latencies are null where nothing did."""

    at: float
    """When the step begins."""
    rows: float
    """How many rows ended; of a sampled job, what the sample makes probable."""
    failed: float
    """How many of them failed."""
    rows_per_s: float
    """How many rows ended in a second."""
    tokens_per_s: float
    """How many tokens were generated in a second."""
    latency_p50_ms: float | None
    """What half of the rows stayed below, from their start to their end; null where none ended."""
    latency_p95_ms: float | None
    """What 95 of 100 rows stayed below; null where none ended."""


class TimeLeft(Described):
    """How long the rest takes: as it seems, and within which bounds."""

    estimate_s: float | None
    """At the rate of late, as a job's `eta_s`; null where that is."""
    low_s: float
    """At the best speed of late; never above the estimate."""
    high_s: float
    """At the worst; never below the estimate."""


class Maker(Described):
    """A worker, and how many of the rows that were read are its work."""

    name: str
    """The worker."""
    rows: int
    """How many rows are its work."""


class TimelineSample(Described):
    """How much was read, and how much of it there is."""

    parts: int
    """How many parts were read."""
    of_parts: int
    """How many have landed."""
    rows: int
    """How many rows those parts have."""
    of_rows: int
    """How many rows have landed."""


class JobTimeline(Described):
    """How a job has gone so far, in equal steps; times are seconds since 1970."""

    object: Literal["job.timeline"]
    """What this is."""
    job_id: str
    """The job."""
    step_s: float
    """How many seconds a step has."""
    points: list[TimelinePoint]
    """The steps, the oldest first, without gaps."""
    eta: TimeLeft | None
    """Null where it is too early to tell, and where nothing is left."""
    workers: list[Maker]
    """Who did it."""
    sample: TimelineSample
    """On how much of it this rests."""


class JobTask(Described):
    """What a job does with every row."""

    object: Literal["job.task"]
    """What this is."""
    job_id: str
    """The job."""
    model: str
    """The model that is asked."""
    prompt: str | None
    """The template of each prompt; null where there is none."""
    messages: list[dict[str, str]] | None
    """The templates of each conversation, with `role` and `content`; null where there are none."""
    endpoint: str | None
    """What a row is; null where the model decides."""
    sampling: dict[str, Any]
    """How answers are sampled."""
    response_format: dict[str, Any] | None
    """The form of every answer; null for any."""
    tools: dict[str, Any] | None
    """The tools, and what must be called; null without any."""
    template_options: dict[str, Any]
    """Switches of the model's chat template."""
    dimensions: int | None
    """Of the vectors; null is the model's own number."""
    id_column: str | None
    """The column that becomes `custom_id`; null without one."""
    columns: dict[str, str]
    """The columns of the input, and their types."""
    shards: dict[str, int]
    """The `total` of the pieces in which the input is worked on, and the `rows` in all but the
    last.
    """


class GraphNode(Described):
    """An input, a step, or the output."""

    id: str
    """The step's id; that of an input begins with `inputs.`."""
    kind: Literal["input", "step", "output"]
    """What it is."""
    label: str
    """What people call it."""
    type: str | None
    """The type of a step; null for inputs and the output."""


class RunGraph(Described):
    """The steps of a run, each after its sources; an edge has `from` and `to`."""

    object: Literal["workflow.graph"]
    """What this is."""
    run_id: str
    """The run."""
    nodes: list[GraphNode]
    """Each behind its sources."""
    edges: list[dict[str, str]]
    """`from` whose rows `to` takes, by their ids."""


class Caller(Described):
    """As whom a caller is known, and what it may do."""

    object: Literal["principal"]
    """What this is."""
    tenant: str
    """For whom the caller acts."""
    scopes: list[str]
    """What it may do."""
    key_id: str | None
    """By which `/v1/keys` names its key; null without one, and for the server's own."""
    version: str
    """That of the server."""
    flower_url: str | None
    """Where Flower is; null where it is not known."""
