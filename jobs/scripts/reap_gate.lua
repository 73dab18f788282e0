#!lua flags=allow-oom
-- Decide whether leases may be judged now. When nobody could look for a while (Redis was down or
-- stopped, the clock leapt, the last reaper died), workers could not renew either: give them time.
-- KEYS: reaper. ARGV: gap_ms, grace_ms. Returns 1 to go ahead, 0 to wait.
local state = redis.call('HMGET', KEYS[1], 'looked_at_ms', 'quiet_until_ms')
local now = now_ms()
local looked_at, quiet_until = tonumber(state[1] or now), tonumber(state[2] or 0)
-- One pause only, or a reaper slower than the gap would never reap.
if now - looked_at > tonumber(ARGV[1]) and looked_at >= quiet_until then
  quiet_until = now + ARGV[2]
end
redis.call('HSET', KEYS[1], 'looked_at_ms', now, 'quiet_until_ms', quiet_until)
return now >= quiet_until and 1 or 0
