-- What every script shares, and no more: each run makes these functions again.
-- All keys lie under one base, which is the first argument.
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

local function is_durable(queue)
  return string.sub(queue, 1, 2) == 'd:'
end
