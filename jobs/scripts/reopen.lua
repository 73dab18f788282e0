#!lua flags=allow-oom
-- Take back landed shards whose parts turned out to be damaged: they run again. What they had added
-- cannot be read any more, so the sums of all others are told anew, with the last of the shards.
-- ARGV: rows, failed, unparsed, prompt, completion, cached tokens and errors by code of the shards
-- that stay, 1 with the last of the shards that do not, then these. Returns 1, or 0 when the job
-- was not about to be completed.
if redis.call('HGET', JOB, 'state') ~= 'landing' then
  return 0
end
local now, reopened = now_ms(), 0
for number = 9, #ARGV do
  reopened = reopened + redis.call('SETBIT', LANDED, ARGV[number], 0)
  redis.call('ZADD', RETRY, now, ARGV[number])
end
redis.call('HINCRBY', JOB, 'shards_landed', -reopened)
if ARGV[8] ~= '1' then
  return 1
end
retell(unpack(ARGV, 1, 7))
redis.call('HSET', JOB, 'state', 'running')
redis.call('ZREM', LANDING, JOB_ID)
wake()
return 1
