#!lua
-- Enter a job, once. ARGV: created_at_ms, 1 if it has not ended, deadline_ms ('' for none), then
-- field value ... After the keys of every script, KEYS[15]: the index of the tenant's jobs.
-- Returns 1, or 0 when the job was known.
if redis.call('EXISTS', JOB) == 1 then
  return 0
end
redis.call('HSET', JOB, unpack(ARGV, 4))
redis.call('ZADD', JOBS, ARGV[1], JOB_ID)
redis.call('ZADD', KEYS[15], ARGV[1], JOB_ID)
if ARGV[2] == '1' then
  redis.call('SADD', OPEN, JOB_ID)
  if ARGV[3] ~= '' then
    redis.call('ZADD', DEADLINES, ARGV[3], JOB_ID)
  end
  wake()
else
  -- Its end comes next. If whoever enters it dies before that, others find it here.
  redis.call('ZADD', LANDING, now_ms(), JOB_ID)
end
return 1
