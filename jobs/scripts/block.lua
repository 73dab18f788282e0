#!lua flags=allow-oom
-- Hand out no more shards until there is room again where the rows land. ARGV: what was in the way.
-- Returns 1, or 0 when nothing was being handed out.
if not is_open(redis.call('HGET', JOB, 'state')) then
  return 0
end
pause('storage_full')
redis.call('HSET', JOB, 'trouble', ARGV[1])
redis.call('ZADD', BLOCKED, now_ms(), JOB_ID)
return 1
