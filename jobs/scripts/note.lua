#!lua flags=allow-oom
-- Say what holds an unfinished job up; the next commit takes it back. ARGV: message.
local state = redis.call('HGET', JOB, 'state')
if state and (is_alive(state) or state == 'landing') then
  redis.call('HSET', JOB, 'trouble', ARGV[1])
end
