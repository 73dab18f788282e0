#!lua flags=allow-oom
-- Hand a shard back at once. ARGV: shard, attempt. Returns 1, or 0 when it was not held any more.
if not is_held(ARGV[1], ARGV[2]) then
  return 0
end
hand_back(ARGV[1], now_ms())
return 1
