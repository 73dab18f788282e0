#!lua flags=allow-oom
-- Prolong leases. ARGV: lease_ms, then shard attempt ... Returns the shards that are lost.
--
-- After Redis lost everything nobody holds a shard, yet its worker goes on: whoever renews first
-- has it back, under the attempt it had. A job that is not restored yet counts nothing as lost.
local job = redis.call('HMGET', JOB, 'state', 'num_shards', 'last_attempt', 'created_at_ms')
if not job[1] then
  return {}
end
local now = now_ms()
local last_attempt = tonumber(job[3])
local lost = {}

-- No attempt is given out that is ahead of both the clock and the last one, so none that is was.
local function was_forgotten(shard, attempt)
  return tonumber(shard) < tonumber(job[2])
    and not is_landed(shard)
    and redis.call('HEXISTS', ATTEMPTS, shard) == 0
    and attempt > 0
    and attempt <= math.max(last_attempt, age_us(job[4]))
end

local function take_back(shard, attempt)
  redis.call('HSET', ATTEMPTS, shard, attempt .. '|1|')
  redis.call('ZREM', QUEUED, shard)
  redis.call('ZREM', RETRY, shard)
  last_attempt = math.max(last_attempt, tonumber(attempt))
  redis.call('HSET', JOB, 'last_attempt', last_attempt)
  redis.call('HSETNX', JOB, 'started_at_ms', now)
  if job[1] == 'queued' then
    redis.call('HSET', JOB, 'state', 'running')
  end
end

for i = 2, #ARGV, 2 do
  local shard, attempt = ARGV[i], ARGV[i + 1]
  if is_alive(job[1]) and was_forgotten(shard, tonumber(attempt)) then
    take_back(shard, attempt)
  end
  if is_alive(job[1]) and is_held(shard, attempt) then
    lease(shard, now + ARGV[1])
  else
    lost[#lost + 1] = tonumber(shard)
  end
end
return lost
