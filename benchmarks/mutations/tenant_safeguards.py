"""The lines that keep strangers out and tenants apart, and the tests that hold each. Facts only."""

from .safeguard import Safeguard

_KEYS = ("tests/api/test_keys.py",)
_TENANTS = ("tests/api/test_tenants.py",)
_SECRETS = ("tests/api/test_secrets.py",)
_FEEDER = ("tests/jobs/test_feeder.py",)
_CREATIONS = ("tests/api/test_creations.py",)
_QUOTAS = ("tests/api/test_quotas.py",)
_BYTES = ("tests/jobs/test_quotas.py",)
_REMOVAL = ("tests/jobs/test_removal.py",)
_DISK = ("tests/api/test_disk_refusals.py",)
_READER = ("tests/jobs/test_shard_reader.py",)

TENANT_SAFEGUARDS = (
    # -- the door
    Safeguard(
        "a key is asked for once there is one",
        "api/auth.py",
        "return self._master is not None or self._keys.have_been_made()",
        "return self._master is not None",
        _TENANTS,
    ),
    Safeguard(
        "a key allows what its scopes say",
        "api/auth.py",
        "principal.require(needed, ",
        "dict.fromkeys((needed,), ",
        _KEYS,
    ),
    Safeguard(
        "a revoked key is dead",
        "jobs/api_keys.py",
        "if found is None or found.revoked_at is not None:",
        "if found is None:",
        _KEYS,
    ),
    Safeguard(
        "only an admin acts for others",
        "api/auth.py",
        "principal.require(KeyScope.ADMIN, f",
        "dict.fromkeys((KeyScope.ADMIN,), f",
        _KEYS,
    ),
    # -- tenants
    Safeguard(
        "another tenant's job is not there",
        "api/job_lookup.py",
        "if job is None or job.tenant != principal.tenant:",
        "if job is None:",
        _TENANTS,
    ),
    Safeguard(
        "a list holds its tenant's jobs",
        "api/routes/jobs.py",
        "        tenant=principal.tenant,\n        states",
        "        states",
        _TENANTS,
    ),
    Safeguard(
        "the server's files are for admins",
        "api/job_wish.py",
        'principal.require(Scope.ADMIN, "to read a file of the server (input.path)")',
        "",
        _TENANTS,
    ),
    Safeguard(
        "the prefix cache is salted by tenant",
        "api/answer.py",
        "cache_salt=principal_of(request.scope).tenant,",
        "",
        _TENANTS,
    ),
    Safeguard(
        "the prefix cache of bulk rows is salted, too",
        "jobs/shard_reader.py",
        "cache_salt=job.spec.tenant,",
        "",
        _READER,
    ),
    Safeguard(
        "tables of older versions get their index",
        "jobs/job_table.py",
        "self.redis.zadd(self.keys.jobs_of(job.tenant), {job.job_id: job.created_at_ms})",
        "pass",
        _TENANTS,
    ),
    # -- shares
    Safeguard(
        "a weight is a share",
        "jobs/fair_share.py",
        "candidate.cost * num_shards / candidate.weight",
        "candidate.cost * num_shards",
        ("tests/jobs/test_fair_share.py",),
    ),
    Safeguard(
        "what is beyond a quota waits",
        "jobs/feeder.py",
        "self._share.choose(model, barred=self._quotas.barred)",
        "self._share.choose(model)",
        _FEEDER,
    ),
    Safeguard(
        "a ceiling is in force",
        "jobs/feeder.py",
        "priority=tenant.capped(snapshot.priority),",
        "priority=snapshot.priority,",
        _FEEDER,
    ),
    # -- quotas
    Safeguard(
        "who stores too much is refused more",
        "api/storage_quota.py",
        "raise StorageQuotaFull(_told(principal.tenant, stored, limit, num_bytes))",
        "pass",
        _QUOTAS,
    ),
    Safeguard(
        "who stores too much waits",
        "jobs/quotas.py",
        "self.add(name, Load(stored_bytes=self._stored_bytes(name)))",
        "pass",
        _BYTES,
    ),
    Safeguard(
        "streams beyond the limit wait",
        "api/stream_slots.py",
        "while waiting and (limit is None or self._open[holder] < limit):",
        "while waiting:",
        _QUOTAS,
    ),
    Safeguard(
        "what makes something has a limit",
        "api/rate_limit.py",
        "return _refusal(name, what, self.creates.take(name, limit))",
        "return None",
        _CREATIONS,
    ),
    Safeguard(
        "a job says which quota it waits for",
        "api/job_lookup.py",
        "reason = await anyio.to_thread.run_sync(services.quotas.reason, job)",
        "pass",
        _QUOTAS,
    ),
    Safeguard(
        "what a removed job has used stays on record",
        "jobs/removal.py",
        "note(settings, table, job)  # or it is counted where its rows are now",
        "pass",
        _REMOVAL,
    ),
    Safeguard(
        "what a batch has not rendered is not removed",
        "api/routes/jobs.py",
        "await anyio.to_thread.run_sync(_require_unused, services, job)",
        "pass",
        _QUOTAS,
    ),
    Safeguard(
        "nothing is taken in on a disk that is not the queue's",
        "api/home.py",
        "if services.keeper.is_elsewhere:",
        "if False:",
        _DISK,
    ),
    # -- what others see
    Safeguard(
        "Flower changes nothing",
        "api/flower_pages.py",
        'return not address.startswith("/api/") or address in _LOOKING',
        "return True",
        _SECRETS,
    ),
    Safeguard(
        "Flower may not read queues",
        "compose.yaml",
        "~penstock.unacked_mutex ~penstock.unacked_index",
        "~penstock.*",
        _SECRETS,
    ),
)
