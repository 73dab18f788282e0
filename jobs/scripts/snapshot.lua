#!lua flags=no-writes
-- Read a job in one piece. Returns {its fields and values, leased shards, 1 if the last is leased}.
local last_shard = (redis.call('HGET', JOB, 'num_shards') or 0) - 1
local is_last_leased = redis.call('ZSCORE', LEASES, last_shard) and 1 or 0
return { redis.call('HGETALL', JOB), redis.call('ZCARD', LEASES), is_last_leased }
