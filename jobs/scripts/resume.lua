#!lua
-- Hand out shards again. Rows that failed before this are not held against the job any more.
-- ARGV: how many rows had landed, and had failed. Returns 1, or 0 when the job did not pause.
local job = redis.call('HMGET', JOB, 'state', 'started_at_ms')
if job[1] ~= 'paused' then
  return 0
end
redis.call('HSET', JOB, 'state', job[2] and 'running' or 'queued', 'judged_from_rows', ARGV[1],
  'judged_from_failed', ARGV[2])
redis.call('HDEL', JOB, 'pause_reason')
wake()
return 1
