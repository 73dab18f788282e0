#!lua flags=allow-oom
-- Bring a job that had ended to a better end: rows that had failed were run again.
-- ARGV: state, finished_at_ms, shards landed in all, rows, failed, prompt, completion, cached tokens
-- and errors by code of all of them, then shards that have landed.
if redis.call('EXISTS', JOB) == 0 or is_alive(redis.call('HGET', JOB, 'state')) then
  return
end
for number = 10, #ARGV do
  redis.call('SETBIT', LANDED, ARGV[number], 1)
end
for _, name in ipairs(redis.call('HKEYS', JOB)) do
  if string.sub(name, 1, 6) == 'error:' then
    redis.call('HDEL', JOB, name)
  end
end
for code, count in string.gmatch(ARGV[9], '([^=,]+)=(%d+)') do
  redis.call('HINCRBY', JOB, 'error:' .. code, count)
end
if redis.call('HGET', JOB, 'state') ~= ARGV[1] then
  redis.call('HSET', JOB, 'state', ARGV[1], 'finished_at_ms', ARGV[2], 'error', '')
end
redis.call('HSET', JOB, 'shards_landed', ARGV[3], 'succeeded', ARGV[4] - ARGV[5],
  'failed', ARGV[5], 'prompt_tokens', ARGV[6], 'completion_tokens', ARGV[7],
  'cached_tokens', ARGV[8])
