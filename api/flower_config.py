"""What Flower shows and keeps: its `--conf` file, which Flower reads and nothing imports.

A line of Flower is a shard: its kwargs say which rows of which job, its result how far they are.
Prompts are never among them. Flower's view is a lossy one in memory; the truth about a job is
`/v1/jobs`, and its page, to which the job's id leads.
"""

tasks_columns = "kwargs,state,result,runtime,received,worker,name,uuid"
natural_time = True
max_tasks = 20_000  # about 6 KB each
max_workers = 1_000
purge_offline_workers = 300  # seconds
state_save_interval = 0
persistent = False
