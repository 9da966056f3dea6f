-- Makes a queue if it is new, and a member of it.
--
-- Arguments: base, version of the routes that were checked, a fresh version, queue, its route,
-- member, client, milliseconds for which the client counts as alive, whether the queue has one
-- user only, where it begins (`new`, `sequence` or `time`) and the value of that.
--
-- Answers `stale`, `used`, or whether the past is still to be copied.
local queue, member, client = ARGV[4], ARGV[6], ARGV[7]
if (redis.call('GET', base .. 'version') or '') ~= ARGV[2] then
  return 'stale'
end
local now = clock()
local others = purge(queue, now, member)
if ARGV[9] == '1' and others > 0 then
  return 'used'
end

-- The first number at or after a time. The entry behind a gap stands for the numbers in it.
local function at_time(wanted)
  local oldest = redis.call('XRANGE', base .. 'log', '-', '+', 'COUNT', 1)[1]
  if not oldest then
    return 0
  end
  local low = tonumber(string.match(oldest[1], '^%d+'))
  local high = tonumber(redis.call('GET', base .. 'sequence') or '0') + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = redis.call('XRANGE', base .. 'log', string.format('%.0f', middle), '+', 'COUNT', 1)[1]
    if found and tonumber(string.match(found[1], '%d+$')) < wanted then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

if redis.call('HSETNX', base .. 'routes', queue, ARGV[5]) == 1 then
  redis.pcall('XGROUP', 'CREATE', key('queue', queue), 'bus', '0', 'MKSTREAM')
  local start = ARGV[11]
  if ARGV[10] == 'time' then
    start = string.format('%.0f', at_time(tonumber(start)))
  end
  if ARGV[10] ~= 'new' then
    redis.call('HSET', base .. 'copying', queue, start)
  end
  renew(ARGV[3])
end
redis.call('SADD', key('members', queue), member)
redis.call('SADD', base .. 'client:' .. client, member .. ' ' .. queue)
redis.call('ZADD', base .. 'clients', now + ARGV[8], client)

-- Consumers that hold nothing and whose client is gone would pile up over the years.
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', key('queue', queue), 'bus')) do
  if consumer[4] == 0 and not is_live(consumer[2], now) then
    redis.call('XGROUP', 'DELCONSUMER', key('queue', queue), 'bus', consumer[2])
  end
end
return redis.call('HEXISTS', base .. 'copying', queue)
