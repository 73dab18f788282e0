#!lua flags=allow-oom
-- Take back landed shards whose parts turned out to be damaged: they run again. What they had added
-- cannot be read any more, so the sums of all others are told anew.
-- ARGV: rows, failed, prompt, completion, cached tokens and errors by code of the shards that stay,
-- then the shards that do not. Returns 1, or 0 when the job was not about to be completed.
if redis.call('HGET', JOB, 'state') ~= 'landing' then
  return 0
end
local now = now_ms()
for number = 7, #ARGV do
  redis.call('SETBIT', LANDED, ARGV[number], 0)
  redis.call('ZADD', RETRY, now, ARGV[number])
end
for _, name in ipairs(redis.call('HKEYS', JOB)) do
  if string.sub(name, 1, 6) == 'error:' then
    redis.call('HDEL', JOB, name)
  end
end
for code, count in string.gmatch(ARGV[6], '([^=,]+)=(%d+)') do
  redis.call('HINCRBY', JOB, 'error:' .. code, count)
end
redis.call('HSET', JOB, 'state', 'running', 'succeeded', ARGV[1] - ARGV[2], 'failed', ARGV[2],
  'prompt_tokens', ARGV[3], 'completion_tokens', ARGV[4], 'cached_tokens', ARGV[5])
redis.call('HINCRBY', JOB, 'shards_landed', 6 - #ARGV)
redis.call('ZREM', LANDING, JOB_ID)
wake()
return 1
