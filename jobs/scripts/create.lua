#!lua
-- Enter a job, once. KEYS: the job's, jobs, open.
-- ARGV: job id, created_at_ms, 1 if it wants work done, then field value ...
-- Returns 1, or 0 when the job was known.
if redis.call('EXISTS', JOB) == 1 then
  return 0
end
redis.call('HSET', JOB, unpack(ARGV, 4))
redis.call('ZADD', KEYS[7], ARGV[2], ARGV[1])
if ARGV[3] == '1' then
  redis.call('SADD', KEYS[8], ARGV[1])
end
return 1
