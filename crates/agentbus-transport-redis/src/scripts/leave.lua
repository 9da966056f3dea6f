-- Ends a membership.
--
-- Arguments: base, queue, member, client, a fresh version. Answers 1 when it was the last of a
-- queue that is not durable, which takes no more messages from then on.
local queue, member = ARGV[2], ARGV[3]
redis.call('SREM', key('members', queue), member)
redis.call('SREM', base .. 'client:' .. ARGV[4], member .. ' ' .. queue)
if purge(queue, clock(), member) > 0 or is_durable(queue) then
  return 0
end
if redis.call('HDEL', base .. 'routes', queue) == 1 then
  renew(ARGV[5])
end
return 1
