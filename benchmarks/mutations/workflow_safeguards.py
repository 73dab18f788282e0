"""The lines on which a workflow's rows depend, and the tests that hold each. Facts only."""

from .safeguard import Safeguard

_FAULTS = ("tests/jobs/workflow/test_run_faults.py",)
_ENDS = ("tests/jobs/workflow/test_run_ends.py",)
_SHARDS = ("tests/jobs/workflow/test_shard_file.py",)
_SHARES = ("tests/jobs/test_fair_share.py",)
_FEEDER = ("tests/jobs/test_feeder.py",)

WORKFLOW_SAFEGUARDS = (
    Safeguard(
        "a step that may not fail ends its run",
        "jobs/workflow/runs/run_at_work.py",
        "        if fatal is not None:\n",
        "        if fatal == 0:\n",
        _FAULTS,
    ),
    Safeguard(
        "an end waits until there is room to write it",
        "jobs/workflow/runs/run_at_work.py",
        "            self._directory.write_final(self._ending)\n            return\n",
        "            return\n",
        _ENDS,
    ),
    Safeguard(
        "a run is complete when all of its steps are",
        "jobs/workflow/runs/run_state.py",
        "return is_emitted and all(state.is_complete for state in self.steps.values())",
        "return is_emitted",
        _ENDS,
    ),
    Safeguard(
        "the first writer of a step's shard wins",
        "jobs/workflow/workshop/shard_file.py",
        "    if _create(place, index, data):\n        return report\n",
        "    _create(place, index, data)\n    return report\n",
        _SHARDS,
    ),
    Safeguard(
        "the jobs of a run share as one",
        "jobs/fair_share.py",
        "return self.group or self.job_id",
        "return self.job_id",
        _SHARES,
    ),
    Safeguard(
        "the feeder tells which jobs serve one run",
        "jobs/feeder.py",
        'group=run_of(snapshot.job_id) or "",',
        'group="",',
        _FEEDER,
    ),
    Safeguard(
        "the step nearest to the end is fed first",
        "jobs/feeder.py",
        "depth=depth_of(snapshot.job_id),",
        "depth=0,",
        _FEEDER,
    ),
)
