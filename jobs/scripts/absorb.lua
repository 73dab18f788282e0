#!lua
-- Count parts found on disk that nobody committed, whoever holds their shards.
-- ARGV: started_at_ms ('' for unknown), then shard rows failed unparsed prompt completion cached
-- errors ...
-- Returns how many were new.
local job = redis.call('HMGET', JOB, 'state', 'num_shards')
if not (is_alive(job[1]) or is_stopped(job[1])) then
  return 0
end
if job[1] == 'queued' and (#ARGV > 1 or ARGV[1] ~= '') then
  redis.call('HSET', JOB, 'state', 'running', 'started_at_ms', ARGV[1])
end
if (job[1] == 'landing' or job[1] == 'paused') and ARGV[1] ~= '' then
  redis.call('HSETNX', JOB, 'started_at_ms', ARGV[1])
end
local absorbed = 0
for i = 2, #ARGV, 8 do
  if tonumber(ARGV[i]) < tonumber(job[2]) and not is_landed(ARGV[i]) then
    add_landed(0, unpack(ARGV, i, i + 7)) -- whoever was to complete the job is gone: due at once
    absorbed = absorbed + 1
  end
end
judge_errors()
return absorbed
