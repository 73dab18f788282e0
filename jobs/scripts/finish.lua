#!lua flags=allow-oom
-- End a job for good. KEYS: the job's, jobs, open. ARGV: job id, state, at_ms ('' for now), error.
-- Returns 1, or 0 when the job had ended before or is unknown.
local final = { completed = 1, completed_with_errors = 1, failed = 1, cancelled = 1, expired = 1 }
local state = redis.call('HGET', JOB, 'state')
redis.call('SREM', KEYS[8], ARGV[1])
if not state or final[state] then
  return 0
end
redis.call('HDEL', JOB, 'trouble')
redis.call('DEL', LEASES, ATTEMPTS, QUEUED, RETRY)
local at_ms = ARGV[3] ~= '' and ARGV[3] or now_ms()
redis.call('HSET', JOB, 'state', ARGV[2], 'finished_at_ms', at_ms, 'error', ARGV[4])
return 1
