#!lua flags=no-writes
-- Count what waits in the queues, by model. KEYS: the index of jobs with queued shards.
-- ARGV: what stands before a job's id in the name of its hash. Returns {model, shards, ...}.
local shards = {}
for _, job_id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do -- as many as a window, at most
  local job = ARGV[1] .. '{' .. job_id .. '}'
  local model = redis.call('HGET', job, 'model')
  if model then
    shards[model] = (shards[model] or 0) + redis.call('ZCARD', job .. ':queued')
  end
end
local answer = {}
for model, count in pairs(shards) do
  answer[#answer + 1] = model
  answer[#answer + 1] = count
end
return answer
