-- Gives a delivery back for another attempt.
--
-- Arguments: base, queue, member, entry, attempt, delay in milliseconds. Answers 0 when it is
-- somebody else's by now.
local queue, delay = ARGV[2], tonumber(ARGV[6])
if owned(queue, ARGV[3], ARGV[4]) ~= tonumber(ARGV[5]) then
  return 0
end
redis.call('ZREM', key('hold', queue), ARGV[4])
redis.call('ZADD', key('due', queue), clock() + delay, ARGV[4])
if delay == 0 then
  wake(queue)
end
return 1
