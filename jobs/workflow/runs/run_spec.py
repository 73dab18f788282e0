"""What a run is told to do, sealed before it begins, and its inputs as they were sealed.

Everything else about it can be made from this again. Knows no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...model import DEFAULT_PRIORITY
from ..plan import ColumnKind
from ..spec import Workflow

RUN_VERSION = 1


@dataclass(frozen=True, slots=True)
class SealedDataset:
    """One input of a run, as it was sealed."""

    num_rows: int
    num_shards: int
    columns: Mapping[str, ColumnKind]
    num_rejected: int = 0
    arrow_schema: str | None = None  # what its columns were, as `column_schema` writes it


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A sealed run, as `run.json` holds it.

    `seed` decides all chances. With `use_cache`, answers of earlier runs stand for equal requests.
    """

    run_id: str
    workflow: Workflow
    params: Mapping[str, Any]
    inputs: Mapping[str, SealedDataset]
    out: str
    created_at_ms: int
    tenant: str = "default"
    priority: int = DEFAULT_PRIORITY
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    use_cache: bool = True
    out_url: str | None = None
    is_preview: bool = False
    idempotency_key: str | None = None
    retry_of: str | None = None  # the run whose answers it takes over: see `retrying`
    version: int = RUN_VERSION

    @property
    def num_rows(self) -> int:
        """Count the rows of all inputs."""
        return sum(dataset.num_rows for dataset in self.inputs.values())
