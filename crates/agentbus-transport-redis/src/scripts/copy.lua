-- Copies a piece of the log into a queue that begins in the past. The last piece and the queue's
-- going live are one step, so nothing falls between them.
--
-- Arguments: base, queue, pattern, entries per piece, the route of the live queue, a fresh
-- version. Answers 1 when there is no more.
local queue, pattern, piece = ARGV[2], ARGV[3], tonumber(ARGV[4])

local function tokens(text)
  local list = {}
  for token in string.gmatch(text, '[^.]+') do
    list[#list + 1] = token
  end
  return list
end

local wanted = tokens(pattern)
local function matches(subject)
  local found = tokens(subject)
  for at, token in ipairs(wanted) do
    if not found[at] then
      return false
    elseif token == '>' then
      return true
    elseif token ~= '*' and token ~= found[at] then
      return false
    end
  end
  return #found == #wanted
end

local position = redis.call('HGET', base .. 'copying', queue)
if not position then
  return 1
end
local entries = redis.call('XRANGE', base .. 'log', position, '+', 'COUNT', piece)
for _, entry in ipairs(entries) do
  if matches(entry[2][2]) then
    local number = string.match(entry[1], '^%d+')
    redis.call('XADD', key('queue', queue), '*', 'd', entry[2][4], 'n', number)
  end
  position = '(' .. entry[1]
end
if #entries < piece then
  redis.call('HDEL', base .. 'copying', queue)
  redis.call('HSET', base .. 'routes', queue, ARGV[5])
  renew(ARGV[6])
  return 1
end
redis.call('HSET', base .. 'copying', queue, position)
return 0
