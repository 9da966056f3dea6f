-- Publishes a batch: each message to the log, to its queues and to its channel, or to none of them.
--
-- Arguments: base, client, number of the batch, whether the batch before it is on its way, too,
-- version of the routes that were used, entries that the log keeps, entries that a queue may hold,
-- whether AMB's streams are written, milliseconds for which a key is remembered, number of messages,
-- how many of them are for the log; then for each message what it asks for, its channel and its
-- data. It asks for the log with an l, for a responder with an r, and with an m for more: then its
-- key, number of queues and queues follow.
--
-- Answers with `stale` when the routes have changed, with `early` when the batch before it is still
-- to be taken, else with number, receivers and outcome of one message after the other. Outcomes:
-- 0 taken, 1 taken before under its key, 2 nobody listens, 3 a queue is full.
--
-- A client has two batches on its way. The answers to its last two are kept, so that a batch which
-- is sent again after a lost connection, or comes late over an old one, is not taken twice. They lie
-- in two places, the even and the odd, so the batch before lies in the other one.
--
-- The server does nothing else meanwhile, and a call to it costs more than what it does. So what
-- can be asked once for a batch is, and what only some messages need waits until one needs it.
local call = redis.call
local batch = tonumber(ARGV[3])
local even = batch % 2 == 0
local memory = base .. 'sent:' .. ARGV[2]
local here, there = memory .. (even and ':0' or ':1'), memory .. (even and ':1' or ':0')
local known = call('MGET', base .. 'version', here, there)

-- The number of the batch whose answer is kept in a place.
local function taken(kept)
  return kept and tonumber(string.match(kept, '^%d+')) or 0
end

local last, before = taken(known[2]), taken(known[3])
if last == batch then
  return cmsgpack.unpack(string.sub(known[2], #ARGV[3] + 2))
elseif last > batch or before > batch then
  return 'late'
elseif ARGV[4] == '1' and before ~= batch - 1 then
  return 'early'
elseif (known[1] or '') ~= ARGV[5] then
  return 'stale'
end

local amb, room, unused = ARGV[8] == '1', tonumber(ARGV[7]), tonumber(ARGV[11])
local now, number
if unused > 0 then
  now = clock()
  number = call('INCRBY', base .. 'sequence', unused) - unused
end

-- Appends to the log. The number orders it and the time lies in the second half, where a replay
-- finds it. A channel is the subject behind the namespace.
local log, before_subject = base .. 'log', #base - #'agentbus:' + 1
local function append(channel, data)
  number, unused = number + 1, unused - 1
  local id = string.format('%d-%d', number, now)
  call('XADD', log, 'MAXLEN', '~', ARGV[6], id, 's', string.sub(channel, before_subject), 'd', data)
  if amb then
    call('XADD', 'stream:' .. channel, 'MAXLEN', '~', 1000, '*', 'data', data)
  end
  return number
end

local function is_served(queue)
  now = now or clock()
  for _, member in ipairs(call('SMEMBERS', key('members', queue))) do
    if is_live(member, now) then
      return true
    end
  end
  return false
end

-- The queues named by `count` arguments from `at` on. A request waits only where somebody serves.
local function open(at, count, required)
  local queues = {}
  for place = at, at + count - 1 do
    local queue = ARGV[place]
    if not required or is_durable(queue) or is_served(queue) then
      queues[#queues + 1] = key('queue', queue)
    end
  end
  return queues
end

-- Nobody else adds to a queue meanwhile, so its length is asked for once.
local lengths = {}
local function is_full(queues)
  for _, queue in ipairs(queues) do
    lengths[queue] = lengths[queue] or call('XLEN', queue)
    if lengths[queue] >= room then
      return true
    end
  end
  return false
end

-- Publishes what asks for more than a place in the log.
local function publish(asks, channel, data, name, queues)
  if name then
    local before = call('GET', name)
    if before then
      return tonumber(before), 0, 1
    end
  end
  if is_full(queues) then
    return 0, 0, 3
  end
  local number = string.find(asks, 'l', 1, true) and append(channel, data) or 0
  for _, queue in ipairs(queues) do
    call('XADD', queue, '*', 'd', data, 'n', number)
    lengths[queue] = lengths[queue] + 1
  end
  local heard = call('PUBLISH', channel, data) + #queues
  if name then
    call('SET', name, string.format('%d', number), 'PX', ARGV[9])
  end
  if heard == 0 and string.find(asks, 'r', 1, true) then
    return 0, 0, 2
  end
  return number, heard, 0
end

local answer, at = {}, 12
for place = 1, 3 * ARGV[10], 3 do
  local asks, channel, data = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  if asks == '' or asks == 'l' then
    answer[place] = asks == 'l' and append(channel, data) or 0
    answer[place + 1] = call('PUBLISH', channel, data)
    answer[place + 2] = 0
  else
    local name, count = ARGV[at] ~= '' and key('key', ARGV[at]), tonumber(ARGV[at + 1])
    local queues = open(at + 2, count, string.find(asks, 'r', 1, true))
    answer[place], answer[place + 1], answer[place + 2] = publish(asks, channel, data, name, queues)
    at = at + 2 + count
  end
end
-- What was not taken took no number.
if unused > 0 then
  call('DECRBY', base .. 'sequence', unused)
end
call('SET', here, ARGV[3] .. ':' .. cmsgpack.pack(answer), 'PX', 60000)
return answer
