#!lua flags=allow-oom
-- Count that a shard failed as a whole, once for each attempt. ARGV: shard, attempt.
-- Returns how often it has by now, or 0 when the attempt did not hold it any more.
local shard, attempt = ARGV[1], ARGV[2]
if not is_held(shard, attempt) then
  return 0
end
local noted = redis.call('HGET', ATTEMPTS, failures_of(shard)) or '0|0'
local failures, last_attempt = string.match(noted, '^(%d+)|(%d+)$')
if last_attempt ~= attempt then
  failures = failures + 1
  redis.call('HSET', ATTEMPTS, failures_of(shard), string.format('%d|%s', failures, attempt))
end
return tonumber(failures)
