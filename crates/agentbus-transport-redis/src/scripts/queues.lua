-- What the scripts share that look after queues.

-- Forgets the members of a queue whose client is gone; returns how many others than `me` are left.
local function purge(queue, now, me)
  local left = 0
  for _, member in ipairs(redis.call('SMEMBERS', key('members', queue))) do
    if not is_live(member, now) then
      redis.call('SREM', key('members', queue), member)
    elseif member ~= me then
      left = left + 1
    end
  end
  return left
end

local function renew(version)
  redis.call('SET', base .. 'version', version)
end

-- Ends a queue and everything that belongs to it.
local function remove(queue)
  redis.call('HDEL', base .. 'routes', queue)
  redis.call('HDEL', base .. 'copying', queue)
  redis.call('DEL', key('queue', queue), key('due', queue), key('hold', queue), key('members', queue), key('wakes', queue))
end

-- An entry without a message: whoever reads it looks for deliveries that are due. It is noted until
-- it is settled, so that a list of names can count messages only.
local function wake(queue)
  local entry = redis.call('XADD', key('queue', queue), '*', 'w', '1')
  redis.call('SADD', key('wakes', queue), entry)
end

-- Whether a delivery is still what this member was given; returns the attempt.
local function owned(queue, member, entry)
  local pending = redis.pcall('XPENDING', key('queue', queue), 'bus', entry, entry, 1)
  if pending.err or not pending[1] or pending[1][2] ~= member then
    return nil
  end
  return pending[1][4]
end
