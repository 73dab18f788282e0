"""What clients may send about workflows. Knows no workflow: what one says is checked elsewhere."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from .errors import InvalidRequest
from .job_schemas import JobOutput, Priority
from .schemas import Metadata, ShortText
from .strict import Strict

MAX_PREVIEW_ROWS = 100
MAX_WAIT_S = 60.0

Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]
SampleSize = Annotated[int, Field(ge=1, le=MAX_PREVIEW_ROWS)]


class Dataset(Strict):
    """One input: a file that the server can read, one it keeps, or the rows themselves."""

    path: str | None = None
    file_id: str | None = None
    rows: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _check_one(self) -> "Dataset":
        if sum(each is not None for each in (self.path, self.file_id, self.rows)) != 1:
            raise InvalidRequest("an input takes one of path, file_id and rows", param="inputs")
        return self


class StoreRequest(Strict):
    """The body of POST /v1/workflows."""

    workflow: dict[str, Any]


class CheckRequest(Strict):
    """The body of POST /v1/workflows/validate.

    `workflow` is a specification or the name of a stored one, by default its newest `version`.
    """

    workflow: dict[str, Any] | str
    version: Annotated[int, Field(ge=1)] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Dataset] = Field(default_factory=dict)


class RunRequestBody(CheckRequest):
    """The body of POST /v1/workflows/runs, or its part `request` beside an upload.

    The upload is the input that `upload` names, by default the only one that `inputs` lacks.
    """

    upload: ShortText | None = None
    name: ShortText | None = None
    priority: Priority | None = None
    metadata: Metadata | None = None
    idempotency_key: ShortText | None = None
    output: JobOutput | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    use_cache: bool = True


class RunChange(Strict):
    """The body of PATCH /v1/workflows/runs/{id}: what is not named stays, null takes it away."""

    name: ShortText | None = None
    priority: Priority | None = None
    metadata: Metadata | None = None


class RunRetry(Strict):
    """The body of POST /v1/workflows/runs/{id}/retry; all may be left out."""

    name: ShortText | None = None
    priority: Priority | None = None


class PreviewRequest(CheckRequest):
    """The body of POST /v1/workflows/preview: the first rows, through every step."""

    rows: SampleSize = 3
    wait: Wait = 30.0
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class PlanRequest(CheckRequest):
    """The body of POST /v1/workflows/plan: what a sample says about all rows.

    `num_rows` says how many rows the inputs will have, where they are not given in full.
    """

    sample_rows: SampleSize = 16
    num_rows: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    wait: Wait = 60.0
