"""The lines on which a run of a workflow depends, and the tests that hold each. Facts only."""

from .safeguard import Safeguard

_FAULTS = ("tests/jobs/workflow/test_run_faults.py",)
_ENDS = ("tests/jobs/workflow/test_run_ends.py",)
_SHARDS = ("tests/jobs/workflow/test_shard_file.py",)
_SHARES = ("tests/jobs/test_fair_share.py",)
_FEEDER = ("tests/jobs/test_feeder.py",)
_RETRYING = ("tests/jobs/workflow/test_retrying.py",)
_FAMILIES = ("tests/jobs/workflow/test_retry_families.py",)
_RATES = ("tests/jobs/workflow/test_error_rates.py",)
_REMOVAL = ("tests/jobs/workflow/test_run_removal.py",)
_KEYS = ("tests/jobs/workflow/test_runs.py", "-k", "idempotency")

WORKFLOW_SAFEGUARDS = (
    # -- a run from its beginning to its end
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
    Safeguard(
        "a key is of one tenant's run",
        "jobs/workflow/runs/run_key.py",
        "msgspec.json.encode([tenant, key])",
        "msgspec.json.encode([key])",
        _KEYS,
    ),
    Safeguard(
        "nothing is written of a run that was removed",
        "jobs/workflow/workshop/open_run.py",
        "        if not may_exist(self.directory.spec):\n",
        "        if False:\n",
        ("tests/jobs/workflow/test_workbench.py",),
    ),
    Safeguard(
        "only trials go by themselves",
        "jobs/workflow/runs/run_removal.py",
        "        and directory.read().is_preview\n",
        "",
        _REMOVAL,
    ),
    # -- what went wrong
    Safeguard(
        "a value that does not fit is told",
        "jobs/workflow/workshop/shard_file.py",
        "if value is None and rows[position].values.get(name) is not None:",
        "if False:",
        _SHARDS,
    ),
    Safeguard(
        "a default makes a fault no better",
        "jobs/workflow/runs/error_rates.py",
        "step.failed + step.defaulted)",
        "step.failed)",
        _RATES,
    ),
    Safeguard(
        "a run that was resumed is judged anew",
        "jobs/workflow/runs/runs.py",
        "            pause = replace(pause, judged_from=tallies(report.steps))\n",
        "            pass\n",
        ("tests/jobs/workflow/test_run_errors.py", "-k", "judged"),
    ),
    # -- retries
    Safeguard(
        "what failed is asked with another seed",
        "jobs/workflow/retried_answers.py",
        '        if "seed" not in ask.body:\n',
        "        if True:\n",
        _RETRYING,
    ),
    Safeguard(
        "what a killed writer left of an earlier run is rolled back",
        "jobs/workflow/retried_answers.py",
        "?mode=rw",
        "?mode=ro",
        _RETRYING,
    ),
    Safeguard(
        "a failure has one retry at a time",
        "jobs/workflow/runs/retrying.py",
        "open_retry_of(settings, oldest)) is not None",
        'open_retry_of(settings, "")) is not None',
        _FAMILIES,
    ),
    Safeguard(
        "a run that is retried stays",
        "jobs/workflow/runs/run_removal.py",
        "        if retry is not None:\n",
        "        if False:\n",
        _RETRYING,
    ),
)
