#!lua
-- Hand back shards queued so long that their message must be lost. ARGV: older_than_ms, limit.
-- Issuing them again restarts their clock, so no shard returns more often than that.
local now = now_ms()
local stale = redis.call('ZRANGEBYSCORE', QUEUED, '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, shard in ipairs(stale) do
  redis.call('ZREM', QUEUED, shard)
  redis.call('ZADD', RETRY, now, shard)
end
refresh(ISSUED, QUEUED)
if #stale > 0 then
  wake()
end
return stale
