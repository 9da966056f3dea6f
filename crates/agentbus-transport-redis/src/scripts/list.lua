-- Says how far durable names are.
--
-- Arguments: base, then queues. Answers with the newest number of the log, then for each queue that
-- there is: its name, its route, its live members, the messages in it, and where the copy of the
-- past goes on, which is empty when there is none.
local now = clock()
local told = {tonumber(redis.call('GET', base .. 'sequence') or '0')}

local function live_members(queue)
  local live = 0
  for _, member in ipairs(redis.call('SMEMBERS', key('members', queue))) do
    if is_live(member, now) then
      live = live + 1
    end
  end
  return live
end

for at = 2, #ARGV do
  local queue = ARGV[at]
  local route = redis.call('HGET', base .. 'routes', queue)
  if route then
    local wakes = redis.call('SCARD', key('wakes', queue))
    local messages = math.max(redis.call('XLEN', key('queue', queue)) - wakes, 0)
    local position = redis.call('HGET', base .. 'copying', queue) or ''
    told[#told + 1] = {queue, route, live_members(queue), messages, position}
  end
end
return told
