-- Deletes a queue that its last member has left. One that was joined again stays.
--
-- Arguments: base, queue.
if redis.call('SCARD', key('members', ARGV[2])) == 0 then
  remove(ARGV[2])
end
return 1
