"""What clients may send about workflows. Knows no workflow: what one says is checked elsewhere."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from .errors import InvalidRequest
from .generation_schemas import Metadata, ShortText
from .job_schemas import JobOutput, Priority
from .strict import Strict

MAX_PREVIEW_ROWS = 100
MAX_WAIT_S = 60.0

Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]
SampleSize = Annotated[int, Field(ge=1, le=MAX_PREVIEW_ROWS)]


class Dataset(Strict):
    """One input: a file that the server can read, one it keeps, or the rows themselves."""

    path: str | None = None
    """A file on the server's machine, or `s3://bucket/key`; it takes an admin's key."""
    file_id: str | None = None
    """A file that was sent to `/v1/files`; its name tells the format."""
    rows: list[dict[str, Any]] | None = None
    """The rows themselves, each an object that maps columns to values; the body may have 32 MiB."""

    @model_validator(mode="after")
    def _check_one(self) -> "Dataset":
        if sum(each is not None for each in (self.path, self.file_id, self.rows)) != 1:
            raise InvalidRequest("an input takes one of path, file_id and rows", param="inputs")
        return self


class StoreRequest(Strict):
    """The body of POST /v1/workflows."""

    workflow: dict[str, Any]
    """The specification; its `name` is that under which it is kept."""


class CheckRequest(Strict):
    """The body of POST /v1/workflows/validate.

    `workflow` is a specification or the name of a stored one, by default its newest `version`.
    """

    workflow: dict[str, Any] | str
    """A specification, or the name of one that is kept."""
    version: Annotated[int, Field(ge=1)] | None = None
    """Which version of the one that is kept; null for the newest."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Values for the parameters that the workflow declares."""
    inputs: dict[str, Dataset] = Field(default_factory=dict)
    """The rows of each input, by the input's name."""


class RunRequestBody(CheckRequest):
    """The body of POST /v1/workflows/runs, or its part `request` beside an upload.

    The upload is the input that `upload` names, by default the only one that `inputs` lacks.
    """

    upload: ShortText | None = None
    """Which input the part `file` of an upload is; null for the only one that `inputs` lacks."""
    name: ShortText | None = None
    """What people call it; it means nothing to the queue."""
    priority: Priority | None = None
    """From -100 to 100, the larger first, up to the tenant's ceiling. Null means 0, or the ceiling
    where that is lower.
    """
    metadata: Metadata | None = None
    """Up to 16 labels: keys of up to 64 characters, values of up to 512. They come back with it."""
    idempotency_key: ShortText | None = None
    """Of two submissions with the same key only the first makes one, and both are answered with it.
    The header `Idempotency-Key` says the same.
    """
    output: JobOutput | None = None
    """Where the rows land; null for where the workflow says, or else the server's own directory."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Makes whatever is drawn by lot come out the same again."""
    use_cache: bool = True
    """Whether answers of earlier runs to the very same requests are taken over."""


class RunChange(Strict):
    """The body of PATCH /v1/workflows/runs/{id}: what is not named stays, null takes it away."""

    name: ShortText | None = None
    """Another name."""
    priority: Priority | None = None
    """From -100 to 100, the larger first, up to the tenant's ceiling. Null means 0, or the ceiling
    where that is lower.
    """
    metadata: Metadata | None = None
    """Other labels, in place of all that there are; null for none."""


class RunRetry(Strict):
    """The body of POST /v1/workflows/runs/{id}/retry; all may be left out."""

    name: ShortText | None = None
    """A name for the new run; null takes that of the old one."""
    priority: Priority | None = None
    """Another priority, from -100 to 100; null takes that of the old run."""


class PreviewRequest(CheckRequest):
    """The body of POST /v1/workflows/preview: the first rows, through every step."""

    rows: SampleSize = 3
    """How many rows of each input are taken."""
    wait: Wait = 30.0
    """How many seconds to wait for the end before the answer leaves."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Makes whatever is drawn by lot come out the same again."""


class PlanRequest(CheckRequest):
    """The body of POST /v1/workflows/plan: what a sample says about all rows.

    `num_rows` says how many rows the inputs will have, where they are not given in full.
    """

    sample_rows: SampleSize = 16
    """How many rows of each input are taken."""
    num_rows: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """How many rows the inputs will have, by name, where they are not given in full."""
    wait: Wait = 60.0
    """How many seconds to wait for the end of the sample before the answer leaves."""
