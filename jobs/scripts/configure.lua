#!lua
-- Say anew what may be changed about a job. ARGV: deadline_ms ('' for none), field value ...
-- Returns 1, or 0 when the job is unknown.
local state = redis.call('HGET', JOB, 'state')
if not state then
  return 0
end
redis.call('HSET', JOB, unpack(ARGV, 2))
redis.call('ZREM', DEADLINES, JOB_ID)
if ARGV[1] ~= '' and (is_alive(state) or state == 'landing') then
  redis.call('ZADD', DEADLINES, ARGV[1], JOB_ID)
end
wake()
return 1
