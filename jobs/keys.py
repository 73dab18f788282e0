"""Every Redis key and queue of Penstock: its type, who writes it, how long it lives.

{ns} is `Settings.namespace`; {job} a job id. All keys of one job carry the job id in braces, so
that they share a slot. A cluster will not do all the same: the scripts that move a shard keep the
indexes true as well ({ns}:jobs to {ns}:blocked), which name the jobs that want something done.
A score there may be lower than it should be, never higher: whoever looks finds out.

    key                       type    written by      lifetime
    {ns}:jobs                 zset    job table       every known job, scored by creation time (ms)
    {ns}:jobs-of:{tenant}     zset    job table       likewise, of one tenant
    {ns}:open                 set     job table       jobs that have not ended
    {ns}:hungry               zset    job table       jobs with shards to issue -> last change (us)
    {ns}:issued               zset    job table       jobs with queued shards -> the oldest (ms)
    {ns}:leased               zset    job table       jobs with leases -> not before (ms) one ends
    {ns}:landing              zset    job table       jobs to complete -> last attempt (ms)
    {ns}:deadlines            zset    job table       open jobs that must end by a time (ms)
    {ns}:blocked              zset    job table       jobs that wait for room -> last look (ms)
    {ns}:job:{job}            hash    job table       state, counters, the facts of JobSnapshot
    {ns}:job:{job}:landed     bitmap  job table       one bit per committed shard
    {ns}:job:{job}:leases     zset    job table       shard -> deadline (ms of Redis TIME)
    {ns}:job:{job}:attempts   hash    job table       shard -> "attempt|tries|worker"; failures
    {ns}:job:{job}:queued     zset    job table       shard -> when its message was issued (ms)
    {ns}:job:{job}:retry      zset    job table       shards handed back, to be issued again
    {ns}:reaper               hash    job table       when leases were last judged
    {ns}:events:{job}         stream  events          durable tail of a job's events, capped
    {ns}:tail:{request}       stream  events          durable tail of one streamed answer, 10 min
    {ns}:reply:{api}          channel events          answers on their way to one API process
    {ns}:worker:{name}        string  worker          its last heartbeat as JSON, expires in 6 s
    {ns}:workers              set     worker          names that may have a heartbeat
    {ns}:run:{run}            string  advancer        how a workflow's run stands, as JSON, one day
    {ns}:leader:{role}        string  keeper          who holds the role, expires in 3 s
    {ns}:restored             string  keeper          run of the server that the table was made for
    {ns}:held-up              set     keeper          jobs that could not be restored just then
    {ns}:installation         string  keeper          id of the data directory it is made from
"""

JOB_PARTS = ("", "landed", "leases", "attempts", "queued", "retry")


class Keys:
    """Names of all keys under one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.jobs = f"{namespace}:jobs"
        self.open = f"{namespace}:open"
        self.hungry = f"{namespace}:hungry"
        self.issued = f"{namespace}:issued"
        self.leased = f"{namespace}:leased"
        self.landing = f"{namespace}:landing"
        self.deadlines = f"{namespace}:deadlines"
        self.blocked = f"{namespace}:blocked"
        self.reaper = f"{namespace}:reaper"
        self.workers = f"{namespace}:workers"
        self.restored = f"{namespace}:restored"
        self.held_up = f"{namespace}:held-up"
        self.installation = f"{namespace}:installation"

    @property
    def job_prefix(self) -> str:
        """What stands before a job's id in the names of its keys."""
        return f"{self.namespace}:job:"

    def job(self, job_id: str, part: str = "") -> str:
        """Name a job's hash, or one of its parts: landed, leases, attempts, queued, retry."""
        key = f"{self.job_prefix}{{{job_id}}}"
        return f"{key}:{part}" if part else key

    def jobs_of(self, tenant: str) -> str:
        """Name the index of a tenant's jobs."""
        return f"{self.namespace}:jobs-of:{tenant}"

    def of_job(self, job_id: str) -> list[str]:
        """Name all that the scripts may touch for a job, in the order of prelude.lua."""
        parts = [self.job(job_id, part) for part in JOB_PARTS]
        indexes = [self.hungry, self.issued, self.leased, self.landing, self.deadlines]
        return [*parts, self.jobs, self.open, *indexes, self.blocked]

    def events(self, job_id: str) -> str:
        """Name the stream of a job's events."""
        return f"{self.namespace}:events:{{{job_id}}}"

    def run(self, run_id: str) -> str:
        """Name what was last told of a workflow's run."""
        return f"{self.namespace}:run:{run_id}"

    def tail(self, request_id: str) -> str:
        """Name the stream that keeps one streamed answer."""
        return f"{self.namespace}:tail:{request_id}"

    def reply(self, api_id: str) -> str:
        """Name the channel on which one API process receives answers."""
        return f"{self.namespace}:reply:{api_id}"

    def worker(self, name: str) -> str:
        """Name a worker's heartbeat."""
        return f"{self.namespace}:worker:{name}"

    def leader(self, role: str) -> str:
        """Name the lock of a role that only one process holds at a time."""
        return f"{self.namespace}:leader:{role}"

    def queue(self, lane: str, model: str) -> str:
        """Name the Celery queue of a lane (bulk, interactive) of one model."""
        return f"{self.namespace}.{lane}.{model}"

    @property
    def control_queue(self) -> str:
        """Name the Celery queue of small chores: finalize, housekeeping."""
        return f"{self.namespace}.control"
