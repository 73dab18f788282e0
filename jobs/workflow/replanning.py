"""Plans a sealed run again: what it was planned from has not changed. Knows no file."""

from .checks.check import check
from .plan import Plan
from .runs.run_spec import RunSpec


def plan_of(spec: RunSpec) -> Plan:
    """Return the plan of a run."""
    columns = {name: dataset.columns for name, dataset in spec.inputs.items()}
    return check(spec.workflow, spec.params, columns)
