#!lua flags=allow-oom
-- Count a landed shard, once, for the attempt that holds it. Once the job has been stopped nobody
-- does; what is linked counts all the same, as its rows are among the job's files.
-- ARGV: shard, attempt, rows, failed, unparsed, prompt, completion, cached tokens, errors by code.
-- Returns {status, left, 1 if the job pauses now because of its errors}.
local shard = ARGV[1]
local job = redis.call('HMGET', JOB, 'state', 'num_shards', 'shards_landed')
if not job[1] then
  return { 'fenced', -1, 0 }
end
local left = job[2] - job[3]
if is_landed(shard) then
  return { 'duplicate', left, 0 }
end
if is_stopped(job[1]) then
  return { 'late', add_landed(now_ms(), shard, unpack(ARGV, 3)), 0 }
end
if not is_alive(job[1]) or not is_held(shard, ARGV[2]) then
  return { 'fenced', left, 0 }
end
left = add_landed(now_ms(), shard, unpack(ARGV, 3))
return { 'committed', left, judge_errors() and 1 or 0 }
