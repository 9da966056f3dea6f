-- Shows that a client is alive, and clears up after those that are not.
--
-- Arguments: base, client, milliseconds for which it counts as alive, a fresh version, the most
-- clients to clear up after. Answers 1 when the client had been given up meanwhile.
local now = clock()
local returned = redis.call('ZADD', base .. 'clients', now + ARGV[3], ARGV[2])
local changed = false
local dead = redis.call('ZRANGEBYSCORE', base .. 'clients', '-inf', now, 'LIMIT', 0, ARGV[5])
for _, client in ipairs(dead) do
  for _, membership in ipairs(redis.call('SMEMBERS', base .. 'client:' .. client)) do
    local member, queue = string.match(membership, '^(%S+) (.*)$')
    redis.call('SREM', key('members', queue), member)
    if not is_durable(queue) and redis.call('SCARD', key('members', queue)) == 0 then
      remove(queue)
      changed = true
    end
  end
  redis.call('DEL', base .. 'client:' .. client)
  redis.call('ZREM', base .. 'clients', client)
end
if changed then
  renew(ARGV[4])
end
return returned
