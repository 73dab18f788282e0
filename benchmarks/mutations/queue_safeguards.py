"""The lines that keep accepted rows from being lost, doubled or wronged. Facts only.

An early acknowledgement of Celery's messages is not among them: a message is only a hint here, and
chaos stays clean without any.
"""

from .safeguard import Safeguard

_TABLE = ("tests/jobs/test_job_table.py",)
_REBUILD = ("tests/jobs/test_job_table_rebuild.py",)
_LANDING = ("tests/jobs/test_landing.py",)
_POWER = ("tests/chaos/test_power_cut.py",)
_RENEWAL = ("tests/jobs/test_renewal.py",)
_KEYS = ("tests/jobs/test_idempotency.py", "tests/jobs/test_submission_keys.py")

QUEUE_SAFEGUARDS = (
    # -- who may say that a shard is done
    Safeguard(
        "a stale attempt is fenced at its commit",
        "jobs/scripts/commit.lua",
        " or not is_held(shard, ARGV[2])",
        "",
        _TABLE,
    ),
    Safeguard(
        "a shard is counted once",
        "jobs/scripts/commit.lua",
        "if is_landed(shard) then",
        "if false then",
        _TABLE,
    ),
    Safeguard(
        "a part that was found is counted once",
        "jobs/scripts/absorb.lua",
        " and not is_landed(ARGV[i])",
        "",
        _REBUILD,
    ),
    Safeguard(
        "an attempt from before a wipe fits none after it",
        "jobs/scripts/claim.lua",
        "math.max(job[3] + 1, age_us(job[4]))",
        "job[3] + 1",
        _REBUILD,
    ),
    Safeguard(
        "a leased shard is busy",
        "jobs/scripts/claim.lua",
        "if deadline and tonumber(deadline) > now then",
        "if false then",
        _TABLE,
    ),
    Safeguard(
        "commits pass when Redis is full",
        "jobs/scripts/commit.lua",
        "#!lua flags=allow-oom",
        "#!lua",
        (*_TABLE, "-k", "redis_is_full"),
    ),
    Safeguard(
        "releases pass when Redis is full",
        "jobs/scripts/release.lua",
        "#!lua flags=allow-oom",
        "#!lua",
        (*_TABLE, "-k", "redis_is_full"),
    ),
    # -- what brings work back
    Safeguard(
        "leases are prolonged",
        "jobs/custody.py",
        "lost = self._patience.try_once(renew)",
        "lost: list[int] | None = []",
        _RENEWAL,
    ),
    Safeguard(
        "a lost shard is let go",
        "jobs/scripts/renew.lua",
        "    lost[#lost + 1] = tonumber(shard)\n",
        "",
        _RENEWAL,
    ),
    Safeguard(
        "the shards of silent workers come back",
        "jobs/scripts/reap.lua",
        "  hand_back(shard, now)\n",
        "",
        _TABLE,
    ),
    Safeguard(
        "after a silence leases get a grace",
        "jobs/scripts/reap_gate.lua",
        "return now >= quiet_until and 1 or 0",
        "return 1",
        (*_TABLE, "-k", "silence"),
    ),
    Safeguard(
        "lost messages are issued again",
        "jobs/scripts/reissue_stale.lua",
        "  redis.call('ZADD', RETRY, now, shard)\n",
        "",
        ("tests/jobs/test_feeder.py", "-k", "lost_message"),
    ),
    Safeguard(
        "a table that Redis lost is made again",
        "jobs/keeper.py",
        "if self._redis.get(keys.restored) == run_id:",
        "if True:",
        ("tests/jobs/test_keeper.py", "-k", "older_state"),
    ),
    # -- what reaches the disk, and when
    Safeguard(
        "bytes are synced before they get a name",
        "jobs/durable.py",
        "write_all(descriptor, data)\n            os.fsync(descriptor)\n",
        "write_all(descriptor, data)\n",
        _POWER,
    ),
    Safeguard(
        "names are synced before they count",
        "jobs/durable.py",
        "        fsync_directory(path.parent)  # whoever linked it",
        "        pass  # whoever linked it",
        _POWER,
    ),
    Safeguard(
        "the input is synced before its job is accepted",
        "jobs/job_dir.py",
        "                fsync_file(path)\n",
        "                pass\n",
        _POWER,
    ),
    Safeguard(
        "the first part stands",
        "jobs/durable.py",
        "            os.link(temporary, path)\n",
        "            temporary.replace(path)\n",
        (*_LANDING, "-k", "wins or winner"),
    ),
    Safeguard(
        "only a whole shard lands",
        "jobs/landing.py",
        "    if len(by_row) != num_shard_rows(spec, index):\n",
        "    if False:\n",
        _LANDING,
    ),
    Safeguard(
        "a shard that has landed is not computed again",
        "jobs/shard_reader.py",
        "        if found is not None:  # landed",
        "        if False:  # landed",
        ("tests/jobs/test_shard_reader.py",),
    ),
    Safeguard(
        "one key makes one job",
        "jobs/idempotency.py",
        "                fcntl.flock(descriptor, fcntl.LOCK_EX)\n",
        "",
        _KEYS,
    ),
    Safeguard(
        "a key outlives Redis",
        "jobs/idempotency.py",
        "            write_all(self._descriptor, encode_sealed(_Binding(job_id)))\n",
        "",
        _KEYS,
    ),
    Safeguard(
        "an end that is found is synced before it is told",
        "jobs/job_dir.py",
        """        if final is not None:
            with storage_errors(self.path):
""",
        """        if False:
            with storage_errors(self.path):
""",
        ("tests/jobs/test_ending.py",),
    ),
)
