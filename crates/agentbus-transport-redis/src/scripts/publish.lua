-- Publishes a batch: each message to the log, to its queues and to its channel, or to none of them.
--
-- Arguments: base, client, number of the batch, version of the routes that were used, entries that
-- the log keeps, entries that a queue may hold, whether AMB's streams are written, milliseconds for
-- which a key is remembered, number of messages; then for each message its flags, channel, subject,
-- key, data, number of queues, and the queues.
--
-- Answers with `stale` when the routes have changed, else with {number, receivers, outcome} for
-- each message. Outcomes: 0 taken, 1 taken before under its key, 2 nobody listens, 3 a queue is full.
--
-- A client has one batch on its way. The answer to its last one is kept, so that a batch which is
-- sent again after a lost connection, or comes late over an old one, is not taken twice.
local memory = base .. 'sent:' .. ARGV[2]
local sent = redis.call('GET', memory)
if sent then
  local number = string.match(sent, '^%d+')
  if number == ARGV[3] then
    return cmsgpack.unpack(string.sub(sent, #number + 2))
  elseif tonumber(number) > tonumber(ARGV[3]) then
    return 'late'
  end
end
if (redis.call('GET', base .. 'version') or '') ~= ARGV[4] then
  return 'stale'
end

local keep, room, amb, remembered = ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8]
local now = clock()
local at = 10

local function serving(queues, required)
  local open = {}
  for _, queue in ipairs(queues) do
    local serves = not required or is_durable(queue)
    if not serves then
      for _, member in ipairs(redis.call('SMEMBERS', key('members', queue))) do
        if is_live(member, now) then
          serves = true
          break
        end
      end
    end
    if serves then
      open[#open + 1] = queue
    end
  end
  return open
end

local function is_full(queues)
  for _, queue in ipairs(queues) do
    if redis.call('XLEN', key('queue', queue)) >= room then
      return true
    end
  end
  return false
end

local function publish(flags, channel, subject, name, data, queues)
  if name ~= '' then
    local before = redis.call('GET', key('key', name))
    if before then
      return {tonumber(before), 0, 1}
    end
  end
  local open = serving(queues, string.find(flags, 'r', 1, true))
  if is_full(open) then
    return {0, 0, 3}
  end
  local number = 0
  if string.find(flags, 'l', 1, true) then
    number = redis.call('INCR', base .. 'sequence')
    -- The number orders the log and the time lies in the second half, where a replay finds it.
    local id = string.format('%.0f-%.0f', number, now)
    redis.call('XADD', base .. 'log', 'MAXLEN', '~', keep, id, 's', subject, 'd', data)
    if amb then
      redis.call('XADD', 'stream:' .. channel, 'MAXLEN', '~', 1000, '*', 'data', data)
    end
  end
  for _, queue in ipairs(open) do
    redis.call('XADD', key('queue', queue), '*', 'd', data, 'n', number)
  end
  local heard = redis.call('PUBLISH', channel, data)
  if name ~= '' then
    redis.call('SET', key('key', name), string.format('%.0f', number), 'PX', remembered)
  end
  if string.find(flags, 'r', 1, true) and heard + #open == 0 then
    return {0, 0, 2}
  end
  return {number, heard + #open, 0}
end

local answer = {}
for message = 1, tonumber(ARGV[9]) do
  local queues = {}
  local count = tonumber(ARGV[at + 5])
  for queue = 1, count do
    queues[queue] = ARGV[at + 5 + queue]
  end
  answer[message] = publish(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], queues)
  at = at + 6 + count
end
redis.call('SET', memory, ARGV[3] .. ':' .. cmsgpack.pack(answer), 'PX', 60000)
return answer
