"""Jobs that wait for room on the disk where their rows land, and when they go on.

A shard that cannot land is handed back, and its job pauses: computing on would be for nothing, and
jobs whose rows land elsewhere get the engines. Nobody has to resume it.
"""

from .durable import has_room
from .errors import UnknownJob
from .job_dir import JobDir
from .job_table import JobTable
from .results_dir import ResultsDir
from .settings import Settings


def unblock(settings: Settings, table: JobTable, job_id: str) -> bool:
    """Let a job go on if rows can be landed again; returns whether it does.

    Raises:
        CorruptJob: the job cannot be read.
        OSError: the disk has another trouble.
    """
    try:
        spec = JobDir(settings.jobs_dir, job_id).read_spec()
    except UnknownJob:
        return table.unblock(job_id)  # its directory is gone; whoever runs it will say so
    return has_room(ResultsDir.of(spec).path) and table.unblock(job_id)
