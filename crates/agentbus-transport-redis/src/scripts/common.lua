-- What every script shares. All keys lie under one base, which is the first argument.
local base = ARGV[1]

local function key(kind, queue)
  return base .. kind .. ':' .. queue
end

-- The server's clock in milliseconds: the only one that all clients agree on.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether the client that a member belongs to has shown itself lately.
local function is_live(member, now)
  local shown = redis.call('ZSCORE', base .. 'clients', string.match(member, '^[^:]+'))
  return shown and tonumber(shown) > now
end

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

local function is_durable(queue)
  return string.sub(queue, 1, 2) == 'd:'
end

local function renew(version)
  redis.call('SET', base .. 'version', version)
end

-- Ends a queue and everything that belongs to it.
local function remove(queue)
  redis.call('HDEL', base .. 'routes', queue)
  redis.call('HDEL', base .. 'copying', queue)
  redis.call('DEL', key('queue', queue), key('due', queue), key('hold', queue), key('members', queue))
end

-- An entry without a message: whoever reads it looks for deliveries that are due.
local function wake(queue)
  redis.call('XADD', key('queue', queue), '*', 'w', '1')
end

-- Whether a delivery is still what this member was given; returns the attempt.
local function owned(queue, member, entry)
  local pending = redis.pcall('XPENDING', key('queue', queue), 'bus', entry, entry, 1)
  if pending.err or not pending[1] or pending[1][2] ~= member then
    return nil
  end
  return pending[1][4]
end
