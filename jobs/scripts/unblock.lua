#!lua flags=allow-oom
-- Let a job go on that waited for room. Returns 1, or 0 when it did not wait for that (any more).
redis.call('ZREM', BLOCKED, JOB_ID)
local job = redis.call('HMGET', JOB, 'state', 'pause_reason', 'started_at_ms')
if job[1] ~= 'paused' or job[2] ~= 'storage_full' then
  return 0
end
redis.call('HSET', JOB, 'state', job[3] and 'running' or 'queued')
redis.call('HDEL', JOB, 'pause_reason', 'trouble')
wake()
return 1
