#!lua flags=allow-oom
-- Lease a shard to a worker. ARGV: shard, worker, lease_ms. Returns {status, attempt, tries}.
local shard = ARGV[1]
local job = redis.call('HMGET', JOB, 'state', 'num_shards', 'last_attempt', 'created_at_ms')
if not job[1] or tonumber(shard) >= tonumber(job[2]) then
  return { 'unknown', 0, 0 }
end
if is_landed(shard) then
  return { 'landed', 0, 0 }
end
if not is_open(job[1]) then
  return { 'stopped', 0, 0 }
end
-- Whatever the answer below, this shard's message has arrived: nothing is queued any more. When the
-- shard is busy the message may be dropped, because the reaper hands the shard back if its holder dies.
redis.call('ZREM', QUEUED, shard)
if redis.call('EXISTS', QUEUED) == 0 then
  redis.call('ZREM', ISSUED, JOB_ID)
end
local now = now_ms()
local deadline = redis.call('ZSCORE', LEASES, shard)
if deadline and tonumber(deadline) > now then
  return { 'busy', 0, 0 }
end
local attempt = math.max(job[3] + 1, age_us(job[4]))
local _, tries = claim_of(shard)
redis.call('HSET', JOB, 'last_attempt', attempt)
redis.call('HSET', ATTEMPTS, shard, string.format('%d|%d|%s', attempt, tries + 1, ARGV[2]))
lease(shard, now + ARGV[3])
redis.call('ZREM', RETRY, shard)
if job[1] == 'queued' then
  redis.call('HSET', JOB, 'state', 'running', 'started_at_ms', now)
end
return { 'granted', attempt, tries + 1 }
