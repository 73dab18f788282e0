-- Stands before every script: the keys of one job by name, and the one clock that counts.
--
-- A shard is always in exactly one place, and moves only inside a script:
--
--   unissued --issue--> queued --claim--> leased --commit--> landed
--   (>= cursor)           ^ |               |
--                   issue | | reissue_stale | release, reap
--                         | v pause         |
--                        retry <------------+
local JOB, LANDED, LEASES, ATTEMPTS, QUEUED, RETRY = unpack(KEYS)
-- Indexes over all jobs (see keys.py): whoever looks after the queue reads these, never every job.
local JOBS, OPEN, HUNGRY, ISSUED, LEASED, LANDING, DEADLINES, BLOCKED = unpack(KEYS, 7)
local JOB_ID = JOB and string.match(JOB, '{([^{}]*)}$')

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

-- Shards are handed out.
local function is_open(state)
  return state == 'queued' or state == 'running'
end

-- Shards that are held stay so, and land.
local function is_alive(state)
  return is_open(state) or state == 'paused'
end

-- Nothing is handed out any more, but what was held when the job ended may have landed since. One
-- that ended and is entered anew is `landing` for a moment.
local function is_stopped(state)
  return state == 'cancelled' or state == 'expired' or state == 'failed' or state == 'landing'
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

-- Beside it "failures:shard" holds "count|attempt": how often it failed as a whole, and when last.
local function failures_of(shard)
  return 'failures:' .. shard
end

local function is_held(shard, attempt)
  return attempt ~= '0' and claim_of(shard) == attempt
end

-- Tells the feeder that this job has something to issue, or has changed.
local function wake()
  if is_open(redis.call('HGET', JOB, 'state')) then
    redis.call('ZADD', HUNGRY, now_us(), JOB_ID)
  end
end

local function lease(shard, deadline)
  redis.call('ZADD', LEASES, deadline, shard)
  redis.call('ZADD', LEASED, 'LT', deadline, JOB_ID)
end

local function hand_back(shard, now)
  local _, tries = claim_of(shard)
  redis.call('ZREM', LEASES, shard)
  redis.call('HSET', ATTEMPTS, shard, '0|' .. tries .. '|')
  redis.call('ZADD', RETRY, now, shard)
  wake()
end

-- Keeps an index true: a job stands there with the lowest score of its own set, or not at all.
local function refresh(index, set)
  local lowest = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if lowest[2] then
    redis.call('ZADD', index, lowest[2], JOB_ID)
  else
    redis.call('ZREM', index, JOB_ID)
  end
end

local function pause(reason)
  redis.call('HSET', JOB, 'state', 'paused', 'pause_reason', reason)
  redis.call('ZREM', HUNGRY, JOB_ID)
  redis.call('ZREM', ISSUED, JOB_ID)
  local now = now_ms()
  for _, shard in ipairs(redis.call('ZRANGE', QUEUED, 0, -1)) do -- a window, never many
    redis.call('ZADD', RETRY, now, shard)
  end
  redis.call('DEL', QUEUED)
end

-- Names what rows failed of since a job was last resumed: "code=rows,code=rows,". Nothing where an
-- older version resumed it, and kept no codes.
local function errors_since(judged_from_failed)
  local before, errors = redis.call('HGET', JOB, 'judged_from_errors') or '', ''
  if before == '' and judged_from_failed > 0 then
    return errors
  end
  local counts = {}
  for code, count in string.gmatch(before, '([^=,]+)=(%d+)') do
    counts[code] = tonumber(count)
  end
  for _, name in ipairs(redis.call('HKEYS', JOB)) do
    if string.sub(name, 1, 6) == 'error:' then
      local code = string.sub(name, 7)
      local count = redis.call('HGET', JOB, name) - (counts[code] or 0)
      if count > 0 then
        errors = errors .. code .. '=' .. count .. ','
      end
    end
  end
  return errors
end

-- Pauses a job of which too many rows failed since it was last resumed; returns whether it did.
local function judge_errors()
  local job = redis.call('HMGET', JOB, 'state', 'max_error_rate', 'error_rate_after', 'succeeded',
    'failed', 'judged_from_rows', 'judged_from_failed')
  if not is_open(job[1]) or not job[2] or job[2] == '' then
    return false
  end
  local failed = job[5] - (job[7] or 0)
  local rows = job[4] + job[5] - (job[6] or 0)
  local is_too_much = rows >= tonumber(job[3]) and failed > rows * job[2]
  if is_too_much then
    pause('error_rate')
    -- What was too much stays the reason, whatever lands or changes until it is resumed.
    redis.call('HSET', JOB, 'paused_at_rows', rows, 'paused_at_failed', failed,
      'paused_at_rate', job[2], 'paused_at_errors', errors_since(tonumber(job[7] or 0)))
  end
  return is_too_much
end

-- Adds rows that failed, by what they failed of: "code=rows,code=rows".
local function add_errors(errors)
  for code, count in string.gmatch(errors, '([^=,]+)=(%d+)') do
    redis.call('HINCRBY', JOB, 'error:' .. code, count)
  end
end

-- Tells the sums of all landed shards anew.
local function retell(rows, failed, unparsed, prompt, completion, cached, errors)
  for _, name in ipairs(redis.call('HKEYS', JOB)) do
    if string.sub(name, 1, 6) == 'error:' then
      redis.call('HDEL', JOB, name)
    end
  end
  add_errors(errors)
  redis.call('HSET', JOB, 'succeeded', rows - failed, 'failed', failed, 'unparsed', unparsed,
    'prompt_tokens', prompt, 'completion_tokens', completion, 'cached_tokens', cached)
end

-- Marks a shard landed and adds its counts; returns how many shards are left. An end stands.
-- landing_at_ms: since when whoever completes the job is at it.
local function add_landed(landing_at_ms, shard, rows, failed, unparsed, prompt, completion, cached,
    errors)
  redis.call('SETBIT', LANDED, shard, 1)
  redis.call('ZREM', LEASES, shard)
  redis.call('HDEL', ATTEMPTS, shard, failures_of(shard))
  redis.call('ZREM', QUEUED, shard)
  redis.call('ZREM', RETRY, shard)
  redis.call('HINCRBY', JOB, 'succeeded', rows - failed)
  redis.call('HINCRBY', JOB, 'failed', failed)
  redis.call('HINCRBY', JOB, 'unparsed', unparsed)
  redis.call('HINCRBY', JOB, 'prompt_tokens', prompt)
  redis.call('HINCRBY', JOB, 'completion_tokens', completion)
  redis.call('HINCRBY', JOB, 'cached_tokens', cached)
  add_errors(errors)
  redis.call('HDEL', JOB, 'trouble')
  local landed = redis.call('HINCRBY', JOB, 'shards_landed', 1)
  local left = redis.call('HGET', JOB, 'num_shards') - landed
  local state = redis.call('HGET', JOB, 'state')
  if left == 0 and (is_alive(state) or state == 'landing') then
    redis.call('HSET', JOB, 'state', 'landing')
    redis.call('HDEL', JOB, 'pause_reason')
    redis.call('ZREM', HUNGRY, JOB_ID)
    redis.call('ZADD', LANDING, landing_at_ms, JOB_ID)
  end
  return left
end
