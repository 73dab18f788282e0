"""How the jobs that serve a workflow's run are called. Knows names only.

<run_id>-<place of the step in the plan>-<number>        run_01K3…-02-000007
"""


def order_name(run_id: str, place: int, number: int) -> str:
    """Name a job of a step; the numbers of a step count up."""
    return f"{run_id}-{place:02}-{number:06}"


def run_of(job_id: str) -> str | None:
    """Tell which run a job serves, if it serves one."""
    run_id, dash, _ = job_id.partition("-")
    return run_id if dash and run_id.startswith("run_") else None


def depth_of(job_id: str) -> int:
    """Tell the place of its step in the plan: the larger, the nearer to the end."""
    parts = job_id.split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0


def number_of(job_id: str) -> int | None:
    """Tell its number in its step, if it serves one."""
    parts = job_id.split("-")
    return int(parts[2]) if len(parts) == 3 and parts[2].isdigit() else None
