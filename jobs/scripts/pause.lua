#!lua flags=allow-oom
-- Hand out no more shards; those that are held go on. ARGV: reason.
-- Returns 1, or 0 when there was nothing to pause.
if not is_open(redis.call('HGET', JOB, 'state')) then
  return 0
end
pause(ARGV[1])
return 1
