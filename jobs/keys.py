"""Every Redis key and queue of Penstock: its type, who writes it, how long it lives.

{ns} is `Settings.namespace`; {job} a job id. All keys of one job carry the job id in braces, so
that they share a slot. A cluster will not do all the same: the scripts that enter and end a job
touch {ns}:jobs and {ns}:open too.

    key                       type    written by      lifetime
    {ns}:jobs                 zset    job table       every known job, scored by creation time (ms)
    {ns}:open                 set     job table       jobs that still want work done
    {ns}:job:{job}            hash    job table       state, counters, the facts of JobSnapshot
    {ns}:job:{job}:landed     bitmap  job table       one bit per committed shard
    {ns}:job:{job}:leases     zset    job table       shard -> deadline (ms of Redis TIME)
    {ns}:job:{job}:attempts   hash    job table       shard -> "attempt|tries|worker"
    {ns}:job:{job}:queued     zset    job table       shard -> when its message was issued (ms)
    {ns}:job:{job}:retry      zset    job table       shards handed back, to be issued again
    {ns}:reaper               hash    job table       when leases were last judged
    {ns}:idempotency          hash    submission      "{tenant}:{key}" -> job id
    {ns}:events:{job}         stream  events          durable tail of a job's events, capped
    {ns}:tail:{request}       stream  events          durable tail of one streamed answer, 10 min
    {ns}:reply:{api}          channel events          answers on their way to one API process
    {ns}:worker:{name}        string  worker          its last heartbeat as JSON, expires in 6 s
    {ns}:workers              set     worker          names that may have a heartbeat
    {ns}:leader:{role}        string  keeper          who holds the role, expires in 3 s
    {ns}:restored             string  keeper          run of the server that the table was made for
"""


class Keys:
    """Names of all keys under one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.jobs = f"{namespace}:jobs"
        self.open = f"{namespace}:open"
        self.reaper = f"{namespace}:reaper"
        self.idempotency = f"{namespace}:idempotency"
        self.workers = f"{namespace}:workers"
        self.restored = f"{namespace}:restored"

    def job(self, job_id: str, part: str = "") -> str:
        """Name a job's hash, or one of its parts: landed, leases, attempts, queued, retry."""
        key = f"{self.namespace}:job:{{{job_id}}}"
        return f"{key}:{part}" if part else key

    def events(self, job_id: str) -> str:
        """Name the stream of a job's events."""
        return f"{self.namespace}:events:{{{job_id}}}"

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
