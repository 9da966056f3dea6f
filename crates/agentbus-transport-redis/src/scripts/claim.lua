-- Hands over deliveries that are due again: given back, beyond their lease, or left by a client
-- that is gone.
--
-- XAUTOCLAIM knows one idle time for all; here a delivery may have been extended or given back
-- for later, so the pending list is read and claimed one by one.
--
-- Arguments: base, queue, member, lease in milliseconds (0 for none), the most to hand over, the
-- most pending entries to look at. Answers with {entry, attempt, reason, fields} for each.
local queue, member, lease, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local stream, due, hold = key('queue', queue), key('due', queue), key('hold', queue)
local now = clock()
local claimed = {}

local function claim(entry, attempts, reason)
  redis.call('ZREM', due, entry)
  redis.call('ZREM', hold, entry)
  local got = redis.call('XCLAIM', stream, 'bus', member, 0, entry)
  if got[1] then
    claimed[#claimed + 1] = {entry, attempts + 1, reason, got[1][2]}
  end
end

local function claim_set(set, reason)
  local entries = redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, most - #claimed)
  for _, entry in ipairs(entries) do
    local pending = redis.call('XPENDING', stream, 'bus', entry, entry, 1)[1]
    if pending then
      claim(entry, pending[4], reason)
    else
      redis.call('ZREM', set, entry)
    end
  end
end

claim_set(due, 'given back')
if #claimed < most then
  claim_set(hold, 'lease')
end
if #claimed < most then
  for _, pending in ipairs(redis.call('XPENDING', stream, 'bus', '-', '+', ARGV[6])) do
    if #claimed >= most then
      break
    end
    local entry, owner, idle, attempts = unpack(pending)
    if not redis.call('ZSCORE', due, entry) then
      local extended = redis.call('ZSCORE', hold, entry)
      if lease > 0 and idle >= lease and not extended then
        claim(entry, attempts, 'lease')
      elseif owner ~= member and not is_live(owner, now) then
        claim(entry, attempts, 'gone')
      end
    end
  end
end
return claimed
