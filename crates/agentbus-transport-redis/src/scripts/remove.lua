-- Forgets the queue of a durable name, unless somebody uses it.
--
-- Arguments: base, queue, a fresh version. Answers `unknown`, `used`, or 1.
local queue = ARGV[2]
if redis.call('HEXISTS', base .. 'routes', queue) == 0 then
  -- Asked once more after an answer was lost, it is gone by this very request.
  return redis.call('GET', base .. 'version') == ARGV[3] and 1 or 'unknown'
end
if purge(queue, clock(), '') > 0 then
  return 'used'
end
remove(queue)
renew(ARGV[3])
return 1
