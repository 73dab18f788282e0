#!lua flags=no-writes
-- Count the shards of each job that are queued or leased. KEYS: the indexes of jobs with queued
-- shards, and with leases. ARGV: what stands before a job's id in the name of its hash.
-- Returns {job, shards, ...}.
local answer, is_counted = {}, {}
for _, index in ipairs({ KEYS[1], KEYS[2] }) do
  for _, job_id in ipairs(redis.call('ZRANGE', index, 0, -1)) do -- what workers hold, never all
    if not is_counted[job_id] then
      is_counted[job_id] = true
      local job = ARGV[1] .. '{' .. job_id .. '}'
      answer[#answer + 1] = job_id
      answer[#answer + 1] = redis.call('ZCARD', job .. ':queued')
        + redis.call('ZCARD', job .. ':leases')
    end
  end
end
return answer
