"""Values that a column of the output cannot hold: the run tells of them, and loses nothing else."""

from typing import Any

from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings

from .small_runs import SmallRuns, in_small_shards

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
WORKFLOW: dict[str, Any] = {
    "name": "w",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake"},
    "steps": [{"id": "said", "type": "generate", "prompt": "{{ row.n }}", "schema": SCHEMA}],
    "output": {"select": ["said.n"]},
}


def test_a_number_too_large_for_its_column_is_told(settings: Settings, table: JobTable) -> None:
    runs = SmallRuns(settings, table, lambda body: '{"n": ' + body["prompt"] + "}")
    with in_small_shards():
        rows = [{"n": "1"}, {"n": str(2**70)}, {"n": "3"}, {"n": "4"}]
        run_id = runs.submit(WORKFLOW, {"rows": rows}).run_id
        for _ in range(100):
            if runs.lead(run_id, 2):  # every other turn another leader, who reads what landed
                break
        over = runs.read(run_id)
        assert over.state is JobState.COMPLETED_WITH_ERRORS, over
        assert [row["said_n"] for row in runs.output(run_id)] == [1, None, 3, 4]
        assert (over.output_rows, over.steps[-1].failed) == (4, 1)
        assert over.steps[-1].errors == {"value_out_of_range": 1}
