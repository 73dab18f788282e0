#!lua flags=allow-oom
-- Name the jobs that have stood in an index for so long. KEYS: index.
-- ARGV: delay_ms, limit, 1 to give each another delay before it is named again.
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])
if ARGV[3] == '1' then
  for _, job_id in ipairs(due) do
    redis.call('ZADD', KEYS[1], now, job_id)
  end
end
return due
