#!lua flags=allow-oom
-- End a job for good. ARGV: state, at_ms ('' for now), error.
-- Returns 1, or 0 when the job had ended before or is unknown.
local final = { completed = 1, completed_with_errors = 1, failed = 1, cancelled = 1, expired = 1 }
local state = redis.call('HGET', JOB, 'state')
redis.call('SREM', OPEN, JOB_ID)
for _, index in ipairs({ HUNGRY, ISSUED, LEASED, LANDING, DEADLINES, BLOCKED }) do
  redis.call('ZREM', index, JOB_ID)
end
if not state or final[state] then
  return 0
end
redis.call('HDEL', JOB, 'trouble', 'pause_reason')
redis.call('DEL', LEASES, ATTEMPTS, QUEUED, RETRY)
local at_ms = ARGV[2] ~= '' and ARGV[2] or now_ms()
redis.call('HSET', JOB, 'state', ARGV[1], 'finished_at_ms', at_ms, 'error', ARGV[3])
return 1
