-- Keeps a delivery for longer.
--
-- Arguments: base, queue, member, entry, attempt, the new lease in milliseconds. Answers 0 when
-- it is somebody else's by now.
local queue = ARGV[2]
if owned(queue, ARGV[3], ARGV[4]) ~= tonumber(ARGV[5]) then
  return 0
end
redis.call('ZADD', key('hold', queue), clock() + ARGV[6], ARGV[4])
return 1
