-- Stands before every script: the keys of one job by name, and the one clock that counts.
--
-- A shard is always in exactly one place, and moves only inside a script:
--
--   unissued --issue--> queued --claim--> leased --commit--> landed
--   (>= cursor)           ^ |               |
--                   issue | | reissue_stale | release, reap
--                         | v               |
--                        retry <------------+
local JOB, LANDED, LEASES, ATTEMPTS, QUEUED, RETRY = unpack(KEYS)

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- Attempts are microseconds of the job's age, so that a number given out before Redis was wiped or
-- rolled back never fits a claim made after it: no two claims begin within the same microsecond.
local function age_us(created_at_ms)
  return now_us() - created_at_ms * 1000
end

local function is_open(state)
  return state == 'queued' or state == 'running'
end

local function is_landed(shard)
  return redis.call('GETBIT', LANDED, shard) == 1
end

local function is_on_its_way(shard)
  return redis.call('ZSCORE', LEASES, shard)
    or redis.call('ZSCORE', QUEUED, shard)
    or redis.call('ZSCORE', RETRY, shard)
end

-- ATTEMPTS holds "attempt|tries|worker"; attempt 0 means that nobody holds the shard.
local function claim_of(shard)
  local claim = redis.call('HGET', ATTEMPTS, shard) or '0|0|'
  local attempt, tries = string.match(claim, '^(%d+)|(%d+)|')
  return attempt, tonumber(tries)
end

local function is_held(shard, attempt)
  return attempt ~= '0' and claim_of(shard) == attempt
end

local function hand_back(shard, now)
  local _, tries = claim_of(shard)
  redis.call('ZREM', LEASES, shard)
  redis.call('HSET', ATTEMPTS, shard, '0|' .. tries .. '|')
  redis.call('ZADD', RETRY, now, shard)
end

-- Marks a shard landed and adds its counts; returns how many shards are left.
local function add_landed(shard, rows, failed, prompt, completion, cached)
  redis.call('SETBIT', LANDED, shard, 1)
  redis.call('ZREM', LEASES, shard)
  redis.call('HDEL', ATTEMPTS, shard)
  redis.call('ZREM', QUEUED, shard)
  redis.call('ZREM', RETRY, shard)
  redis.call('HINCRBY', JOB, 'succeeded', rows - failed)
  redis.call('HINCRBY', JOB, 'failed', failed)
  redis.call('HINCRBY', JOB, 'prompt_tokens', prompt)
  redis.call('HINCRBY', JOB, 'completion_tokens', completion)
  redis.call('HINCRBY', JOB, 'cached_tokens', cached)
  redis.call('HDEL', JOB, 'trouble')
  local landed = redis.call('HINCRBY', JOB, 'shards_landed', 1)
  local left = redis.call('HGET', JOB, 'num_shards') - landed
  if left == 0 then
    redis.call('HSET', JOB, 'state', 'landing')
  end
  return left
end
