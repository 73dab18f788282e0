#!lua
-- Choose shards to be queued: first those handed back, then the next ones in order.
-- ARGV: limit, how many shards to look at in one call. Returns the chosen shards.
local job = redis.call('HMGET', JOB, 'state', 'cursor', 'num_shards')
if not is_open(job[1]) then
  return {}
end
local now, limit, scan_limit = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local issued = redis.call('ZRANGEBYSCORE', RETRY, '-inf', now, 'LIMIT', 0, limit)
for _, shard in ipairs(issued) do
  redis.call('ZREM', RETRY, shard)
end
-- A rebuilt job has landed shards beyond its cursor; after a rolled-back Redis there may be leased ones.
local cursor, num_shards = tonumber(job[2]), tonumber(job[3])
local scan_end = math.min(num_shards, cursor + scan_limit)
while #issued < limit and cursor < scan_end do
  if not is_landed(cursor) and not redis.call('ZSCORE', LEASES, cursor) then
    issued[#issued + 1] = cursor
  end
  cursor = cursor + 1
end
redis.call('HSET', JOB, 'cursor', cursor)
for _, shard in ipairs(issued) do
  redis.call('ZADD', QUEUED, now, shard)
end
return issued
