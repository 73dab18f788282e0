"""A page of a run's rows as bytes: JSON lines, an Arrow stream or Parquet. Knows no HTTP.

In the latter two documents stay what they are in the run's own Parquet: JSON text, and beside it
`<column>__parsed`, where their schema makes a type of it. Columns of an input have the types that
they came with.
"""

from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..jobs.settings import Settings
from ..jobs.workflow.carried_types import carried_types
from ..jobs.workflow.checks.problems import InvalidWorkflow
from ..jobs.workflow.replanning import plan_of
from ..jobs.workflow.runs.part_ends import PartEnds
from ..jobs.workflow.runs.run_dir import RunDir
from ..jobs.workflow.runs.run_spec import RunSpec
from ..jobs.workflow.runs.runs import step_table
from .column_types import restored

RunFormat = Literal["jsonl", "arrow", "parquet"]
TableFormat = Literal["arrow", "parquet"]


def table_page(
    settings: Settings,
    run_id: str,
    step: str | None,
    format: TableFormat,
    after: int,
    limit: int,
    ends: PartEnds,
) -> tuple[int, bytes]:
    """Read and encode rows of a step, or of the output; says how many they are.

    Raises:
        UnknownJob: there is no such run.
        CorruptPart: a part is damaged.
    """
    spec = RunDir(settings.runs_dir, run_id).read()
    types = _types_of(spec, step)
    table = step_table(settings, run_id, step, after=after, limit=limit, ends=ends)
    table = restored(table.replace_schema_metadata(), types)  # a shard's: how it came to be
    sink = pa.BufferOutputStream()
    if format == "arrow":
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return table.num_rows, sink.getvalue().to_pybytes()


def _types_of(spec: RunSpec, step: str | None) -> str | None:
    if not any(dataset.arrow_schema for dataset in spec.inputs.values()):
        return None  # without a plan, which each page would have to make anew
    try:
        return carried_types(spec, plan_of(spec), step)
    except InvalidWorkflow:  # today's checks are stricter: its rows are there all the same
        return None
