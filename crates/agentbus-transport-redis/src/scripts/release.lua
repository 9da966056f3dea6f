-- Gives back deliveries that nobody has looked at: they count no attempt.
--
-- Arguments: base, queue, member, then for each delivery its entry and the attempts before it.
local queue, member = ARGV[2], ARGV[3]
local given = 0
for at = 4, #ARGV, 2 do
  if owned(queue, member, ARGV[at]) then
    redis.call('XCLAIM', key('queue', queue), 'bus', member, 0, ARGV[at], 'RETRYCOUNT', ARGV[at + 1], 'JUSTID')
    redis.call('ZREM', key('hold', queue), ARGV[at])
    redis.call('ZADD', key('due', queue), 0, ARGV[at])
    given = given + 1
  end
end
if given > 0 then
  wake(queue)
end
return given
