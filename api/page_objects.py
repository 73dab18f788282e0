"""What pages ask for beside jobs and runs, for the OpenAPI document. Knows shapes, makes none."""

from typing import Any, Literal

from pydantic import BaseModel


class TimelinePoint(BaseModel):
    """What ended in one step of a timeline; latencies are null where nothing did."""

    at: float
    rows: float
    failed: float
    rows_per_s: float
    tokens_per_s: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None


class TimeLeft(BaseModel):
    """How long the rest takes at the best and at the worst speed of late."""

    low_s: float
    high_s: float


class Maker(BaseModel):
    """A worker, and how many of the rows that were read are its work."""

    name: str
    rows: int


class TimelineSample(BaseModel):
    """How much was read, and how much of it there is."""

    parts: int
    of_parts: int
    rows: int
    of_rows: int


class JobTimeline(BaseModel):
    """How a job has gone so far, in equal steps; times are seconds since 1970."""

    object: Literal["job.timeline"]
    job_id: str
    step_s: float
    points: list[TimelinePoint]
    eta: TimeLeft | None
    workers: list[Maker]
    sample: TimelineSample


class JobTask(BaseModel):
    """What a job does with every row."""

    object: Literal["job.task"]
    job_id: str
    model: str
    prompt: str | None
    messages: list[dict[str, str]] | None
    endpoint: str | None
    sampling: dict[str, Any]
    response_format: dict[str, Any] | None
    tools: dict[str, Any] | None
    template_options: dict[str, Any]
    dimensions: int | None
    id_column: str | None
    columns: dict[str, str]
    shards: dict[str, int]


class GraphNode(BaseModel):
    """An input, a step, or the output."""

    id: str
    kind: Literal["input", "step", "output"]
    label: str
    type: str | None


class RunGraph(BaseModel):
    """The steps of a run, each after its sources; an edge has `from` and `to`."""

    object: Literal["workflow.graph"]
    run_id: str
    nodes: list[GraphNode]
    edges: list[dict[str, str]]


class Caller(BaseModel):
    """As whom a caller is known, and what it may do."""

    object: Literal["principal"]
    tenant: str
    scopes: list[str]
    key_id: str | None
    version: str
    flower_url: str | None
