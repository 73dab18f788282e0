#!lua flags=allow-oom
-- Hand back the shards whose lease has run out. ARGV: limit. Returns them.
local now = now_ms()
local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, shard in ipairs(expired) do
  hand_back(shard, now)
end
refresh(LEASED, LEASES)
return expired
