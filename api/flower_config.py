"""What Flower shows and keeps: its `--conf` file, which Flower reads and nothing imports.

A line of Flower is a shard: its kwargs name the job, its args the shard and its rows, its result
how far they are. Prompts are never among them. Flower's view is a lossy one in memory; the truth
about a job is `/v1/jobs`, and its page, to which the job's id leads.
"""

from typing import Any

tasks_columns = "kwargs,args,state,result,runtime,received,worker,name,uuid"
natural_time = True
max_tasks = 20_000  # about 6 KB each
max_workers = 1_000
purge_offline_workers = 300  # seconds
state_save_interval = 0
persistent = False


def format_task(task: Any) -> Any:
    """Set a shard apart from its job, and take the quotes off what came of it.

    Flower hands in a copy; what is searched for stays as it was sent.
    """
    job, _, shard = (task.kwargs or "").partition(" ")
    if task.name == "penstock.generate" and shard:
        task.kwargs, task.args = job, shard
    if task.result:
        task.result = task.result.strip("'")
    return task
