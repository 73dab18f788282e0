#!lua flags=allow-oom
-- Prolong leases. ARGV: lease_ms, then shard attempt ... Returns the shards that are lost.
local is_running = is_open(redis.call('HGET', JOB, 'state'))
local deadline = now_ms() + ARGV[1]
local lost = {}
for i = 2, #ARGV, 2 do
  if is_running and is_held(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', LEASES, deadline, ARGV[i])
  else
    lost[#lost + 1] = tonumber(ARGV[i])
  end
end
return lost
