-- Wakes a member when something is due.
--
-- Arguments: base, queue.
if redis.call('ZCOUNT', key('due', ARGV[2]), '-inf', clock()) > 0 then
  wake(ARGV[2])
end
return 1
