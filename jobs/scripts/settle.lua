#!lua
-- Put in force what the disk says of a job: it pauses or goes on, priority, deadline, and the rest.
-- ARGV: deadline_ms ('' for none), pause reason ('' for none), rows landed when it was last resumed,
-- then field value ... Returns 1, or 0 when the job is unknown.
local job = redis.call('HMGET', JOB, 'state', 'pause_reason', 'judged_from_rows', 'started_at_ms')
local state = job[1]
if not state then
  return 0
end
redis.call('HSET', JOB, unpack(ARGV, 4))
redis.call('ZREM', DEADLINES, JOB_ID)
if ARGV[1] ~= '' and (is_alive(state) or state == 'landing') then
  redis.call('ZADD', DEADLINES, ARGV[1], JOB_ID)
end
-- One that paused by itself goes on if it was resumed since, and not because nobody paused it.
local is_resumed = ARGV[2] == '' and (job[2] == 'user' or job[3] ~= ARGV[3])
if is_open(state) and ARGV[2] ~= '' then
  pause(ARGV[2])
elseif state == 'paused' and ARGV[2] ~= '' then
  redis.call('HSET', JOB, 'pause_reason', ARGV[2]) -- room for its rows does not end this pause
elseif state == 'paused' and is_resumed then
  redis.call('HSET', JOB, 'state', job[4] and 'running' or 'queued')
  redis.call('HDEL', JOB, 'pause_reason')
end
wake()
return 1
