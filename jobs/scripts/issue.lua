#!lua
-- Choose shards to be queued: first those handed back, then the next ones in order.
-- ARGV: limit, how many shards to look at in one call. Returns the chosen shards.
local job = redis.call('HMGET', JOB, 'state', 'cursor', 'num_shards')
if not is_open(job[1]) then
  redis.call('ZREM', HUNGRY, JOB_ID)
  return {}
end
local now, limit, scan_limit = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local issued = redis.call('ZRANGEBYSCORE', RETRY, '-inf', now, 'LIMIT', 0, limit)
for _, shard in ipairs(issued) do
  redis.call('ZREM', RETRY, shard)
  redis.call('ZADD', QUEUED, now, shard)
end
-- Not all that is beyond the cursor is unissued: a rebuilt job has landed shards there, and after
-- Redis was rolled back, messages of shards arrive that it does not remember having issued.
local cursor, num_shards = tonumber(job[2]), tonumber(job[3])
local scan_end = math.min(num_shards, cursor + scan_limit)
while #issued < limit and cursor < scan_end do
  if not is_landed(cursor) and not is_on_its_way(cursor) then
    redis.call('ZADD', QUEUED, now, cursor)
    issued[#issued + 1] = cursor
  end
  cursor = cursor + 1
end
redis.call('HSET', JOB, 'cursor', cursor)
if #issued > 0 then
  redis.call('ZADD', ISSUED, 'NX', now, JOB_ID)
end
if cursor >= num_shards and redis.call('EXISTS', RETRY) == 0 then
  redis.call('ZREM', HUNGRY, JOB_ID)
end
return issued
