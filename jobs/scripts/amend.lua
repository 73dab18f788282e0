#!lua flags=allow-oom
-- Bring a job that had ended to a better end: rows that had failed were run again.
-- ARGV: state, finished_at_ms, shards landed in all, rows, failed, unparsed, prompt, completion,
-- cached tokens and errors by code of all of them, then shards that have landed.
if redis.call('EXISTS', JOB) == 0 or is_alive(redis.call('HGET', JOB, 'state')) then
  return
end
for number = 11, #ARGV do
  redis.call('SETBIT', LANDED, ARGV[number], 1)
end
if redis.call('HGET', JOB, 'state') ~= ARGV[1] then
  redis.call('HSET', JOB, 'state', ARGV[1], 'finished_at_ms', ARGV[2], 'error', '')
end
redis.call('HSET', JOB, 'shards_landed', ARGV[3])
retell(unpack(ARGV, 4, 10))
