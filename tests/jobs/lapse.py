"""Leases that run out while a test looks on."""

from penstock.jobs.job_table import JobTable
from tests.waiting import wait_for


def wait_until_lapsed(table: JobTable, job_id: str, index: int = 0) -> None:
    """Wait until a shard's lease is over by the clock that judges it, which is that of Redis."""
    ends_at_ms = table.redis.zscore(table.keys.job(job_id, "leases"), str(index))
    assert ends_at_ms is not None, f"nobody holds shard {index}"

    def has_lapsed() -> bool:
        seconds, microseconds = table.redis.time()
        return seconds * 1000 + microseconds / 1000 > ends_at_ms + 1

    wait_for(has_lapsed, "the lease to lapse")
